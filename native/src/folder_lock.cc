#include "folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <string>

#include "errors.h"
#include "fd.h"

namespace sculptor {

Napi::Value LockFolder(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path = info[0].As<Napi::String>();
  Fd folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.Get() < 0 || flock(folder.Get(), LOCK_EX | LOCK_NB) != 0) {
    throw SystemError(env, errno, "lock of " + path);
  }
  return Napi::Number::New(env, folder.Release());
}

}  // namespace sculptor
