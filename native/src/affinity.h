// The CPU masks of threads.
#ifndef SCULPTOR_AFFINITY_H_
#define SCULPTOR_AFFINITY_H_

#include <napi.h>

namespace sculptor {

Napi::Value GetAffinity(const Napi::CallbackInfo& info);
Napi::Value SetAffinity(const Napi::CallbackInfo& info);

}  // namespace sculptor

#endif  // SCULPTOR_AFFINITY_H_
