#include "end_within.h"

#include <unistd.h>

#include <chrono>
#include <system_error>
#include <thread>

#include "errors.h"

namespace sculptor {

void EndWithin(const Napi::CallbackInfo& info) {
  const std::chrono::milliseconds patience(info[0].As<Napi::Number>().Uint32Value());
  const int code = info[1].As<Napi::Number>().Int32Value();
  try {
    std::thread([patience, code] {
      std::this_thread::sleep_for(patience);
      _exit(code);
    }).detach();
  } catch (const std::system_error& error) {
    throw SystemError(info.Env(), error.code().value(), "a thread to end the process");
  }
}

}  // namespace sculptor
