// Turns a failure of the kernel or of libbpf into one JS error, at the boundary.
#ifndef SCULPTOR_ERRORS_H_
#define SCULPTOR_ERRORS_H_

#include <napi.h>

#include <string>

namespace sculptor {

// `error`: a positive errno. The JS error has `code` (its name), `errno`, and `log` when there is
// one.
Napi::Error SystemError(Napi::Env env, int error, const std::string& what,
                        const std::string& log = "");

}  // namespace sculptor

#endif  // SCULPTOR_ERRORS_H_
