// Hears of what is written in folders (inotify(7)) when it is asked, and never wakes anybody.
#ifndef SCULPTOR_FOLDER_WATCH_H_
#define SCULPTOR_FOLDER_WATCH_H_

#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "fd.h"

namespace sculptor {

class FolderWatch : public Napi::ObjectWrap<FolderWatch> {
 public:
  // openFolderWatch(prefixes): of files only those are heard whose name begins with one of these.
  static Napi::Value Open(const Napi::CallbackInfo& info);
  explicit FolderWatch(const Napi::CallbackInfo& info);

 private:
  Napi::Value Add(const Napi::CallbackInfo& info);
  void Remove(const Napi::CallbackInfo& info);
  Napi::Value Take(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  int Opened(Napi::Env env) const;
  bool Matters(const std::string& name) const;

  std::unique_ptr<Fd> queue_;
  std::vector<std::string> prefixes_;
};

}  // namespace sculptor

#endif  // SCULPTOR_FOLDER_WATCH_H_
