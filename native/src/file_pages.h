// The pages of files that this process has mapped.
#ifndef SCULPTOR_FILE_PAGES_H_
#define SCULPTOR_FILE_PAGES_H_

#include <napi.h>

namespace sculptor {

Napi::Value DropFilePages(const Napi::CallbackInfo& info);

}  // namespace sculptor

#endif  // SCULPTOR_FILE_PAGES_H_
