// The `const volatile` variables of a BPF object, set before it is loaded.
#ifndef SCULPTOR_BPF_CONSTANTS_H_
#define SCULPTOR_BPF_CONSTANTS_H_

#include <bpf/libbpf.h>
#include <napi.h>

namespace sculptor {

// By name: a number or a boolean for a variable, a buffer for the beginning of an array.
void SetConstants(bpf_object* object, const Napi::Object& constants);

}  // namespace sculptor

#endif  // SCULPTOR_BPF_CONSTANTS_H_
