// Reads a file whose reading may wait for as long as somebody else likes.
#ifndef SCULPTOR_READ_ASIDE_H_
#define SCULPTOR_READ_ASIDE_H_

#include <napi.h>

namespace sculptor {

Napi::Value ReadAside(const Napi::CallbackInfo& info);

}  // namespace sculptor

#endif  // SCULPTOR_READ_ASIDE_H_
