#include "peercred.h"

#include <sys/socket.h>

#include <cerrno>

#include "errors.h"

namespace sculptor {

Napi::Value PeerCredentials(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ucred peer;
  socklen_t length = sizeof(peer);
  int fd = info[0].As<Napi::Number>().Int32Value();
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    throw SystemError(env, errno, "SO_PEERCRED of fd " + std::to_string(fd));
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("pid", peer.pid);
  result.Set("uid", peer.uid);
  result.Set("gid", peer.gid);
  return result;
}

}  // namespace sculptor
