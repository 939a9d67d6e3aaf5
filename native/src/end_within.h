// Ends this process, whatever its threads wait for.
#ifndef SCULPTOR_END_WITHIN_H_
#define SCULPTOR_END_WITHIN_H_

#include <napi.h>

namespace sculptor {

void EndWithin(const Napi::CallbackInfo& info);

}  // namespace sculptor

#endif  // SCULPTOR_END_WITHIN_H_
