#include "errors.h"

#include <cstring>

namespace sculptor {

Napi::Error SystemError(Napi::Env env, int error, const std::string& what, const std::string& log) {
  const char* name = strerrorname_np(error);
  std::string code = name ? name : std::to_string(error);
  Napi::Error js = Napi::Error::New(env, what + ": " + code + ": " + strerror(error));
  js.Set("code", Napi::String::New(env, code));
  js.Set("errno", Napi::Number::New(env, error));
  if (!log.empty()) js.Set("log", Napi::String::New(env, log));
  return js;
}

}  // namespace sculptor
