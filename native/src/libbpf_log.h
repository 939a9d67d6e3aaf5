// What libbpf says, and the verifier by it: an error tells it.
#ifndef SCULPTOR_LIBBPF_LOG_H_
#define SCULPTOR_LIBBPF_LOG_H_

#include <string>

namespace sculptor {

// From now on nothing is printed.
void KeepLibbpfLog();
// What was said since it was taken last: the last 64 KB of it.
std::string TakeLibbpfLog();

}  // namespace sculptor

#endif  // SCULPTOR_LIBBPF_LOG_H_
