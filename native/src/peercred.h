// Who is at the other end of a unix socket.
#ifndef SCULPTOR_PEERCRED_H_
#define SCULPTOR_PEERCRED_H_

#include <napi.h>

namespace sculptor {

Napi::Value PeerCredentials(const Napi::CallbackInfo& info);

}  // namespace sculptor

#endif  // SCULPTOR_PEERCRED_H_
