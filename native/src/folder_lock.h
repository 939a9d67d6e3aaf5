// A lock of a folder that ends with its process.
#ifndef SCULPTOR_FOLDER_LOCK_H_
#define SCULPTOR_FOLDER_LOCK_H_

#include <napi.h>

namespace sculptor {

Napi::Value LockFolder(const Napi::CallbackInfo& info);

}  // namespace sculptor

#endif  // SCULPTOR_FOLDER_LOCK_H_
