#include "folder_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "errors.h"

namespace sculptor {
namespace {

constexpr uint32_t kMoves = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO;
// The queue may fill as fast as it is read: more of it waits for the next time.
constexpr size_t kMostBytes = 1024 * 1024;
// Of more moves than that it is not told which.
constexpr size_t kMostMoves = 1000;

}  // namespace

Napi::Value FolderWatch::Open(const Napi::CallbackInfo& info) {
  Napi::Function constructor = DefineClass(
      info.Env(), "FolderWatch",
      {InstanceMethod("add", &FolderWatch::Add), InstanceMethod("remove", &FolderWatch::Remove),
       InstanceMethod("take", &FolderWatch::Take), InstanceMethod("close", &FolderWatch::Close)});
  return constructor.New({info[0]});
}

FolderWatch::FolderWatch(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<FolderWatch>(info),
      queue_(std::make_unique<Fd>(inotify_init1(IN_NONBLOCK | IN_CLOEXEC))) {
  if (queue_->Get() < 0) throw SystemError(info.Env(), errno, "inotify_init1");
  Napi::Array prefixes = info[0].As<Napi::Array>();
  for (uint32_t i = 0; i < prefixes.Length(); i++) {
    prefixes_.push_back(prefixes.Get(i).As<Napi::String>().Utf8Value());
  }
}

int FolderWatch::Opened(Napi::Env env) const {
  if (!queue_) throw SystemError(env, EBADF, "a folder watch that is closed");
  return queue_->Get();
}

Napi::Value FolderWatch::Add(const Napi::CallbackInfo& info) {
  std::string folder = info[0].As<Napi::String>().Utf8Value();
  int watch =
      inotify_add_watch(Opened(info.Env()), folder.c_str(), IN_MODIFY | kMoves | IN_ONLYDIR);
  if (watch < 0) throw SystemError(info.Env(), errno, folder);
  return Napi::Number::New(info.Env(), watch);
}

void FolderWatch::Remove(const Napi::CallbackInfo& info) {
  int watch = info[0].As<Napi::Number>().Int32Value();
  // The kernel has removed it by itself where the folder is gone for good.
  if (inotify_rm_watch(Opened(info.Env()), watch) < 0 && errno != EINVAL) {
    throw SystemError(info.Env(), errno, "inotify_rm_watch");
  }
}

bool FolderWatch::Matters(const std::string& name) const {
  for (const std::string& prefix : prefixes_) {
    if (name.compare(0, prefix.size(), prefix) == 0) return true;
  }
  return false;
}

Napi::Value FolderWatch::Take(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::set<int> written;
  std::set<std::pair<int, std::string>> moved;
  bool overflowed = false;
  alignas(inotify_event) char buffer[64 * 1024];
  for (size_t bytes = 0; bytes < kMostBytes;) {
    ssize_t got = read(Opened(env), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno != EAGAIN) throw SystemError(env, errno, "inotify");
    if (got <= 0) break;
    bytes += got;
    for (ssize_t at = 0; at < got;) {
      inotify_event event;
      memcpy(&event, buffer + at, sizeof(event));
      std::string name(event.len > 0 ? buffer + at + sizeof(event) : "");
      at += sizeof(event) + event.len;
      if (event.mask & IN_Q_OVERFLOW) overflowed = true;
      if (event.mask & kMoves && event.mask & IN_ISDIR) moved.emplace(event.wd, name);
      if (moved.size() > kMostMoves) {
        moved.clear();
        overflowed = true;
      }
      if (event.mask & IN_MODIFY && Matters(name)) written.insert(event.wd);
    }
  }
  Napi::Int32Array watches = Napi::Int32Array::New(env, written.size());
  size_t i = 0;
  for (int watch : written) watches[i++] = watch;
  Napi::Array moves = Napi::Array::New(env, moved.size());
  i = 0;
  for (const auto& [watch, name] : moved) {
    Napi::Object move = Napi::Object::New(env);
    move.Set("watch", watch);
    move.Set("name", name);
    moves.Set(i++, move);
  }
  Napi::Object answer = Napi::Object::New(env);
  answer.Set("written", watches);
  answer.Set("moved", moves);
  answer.Set("overflowed", overflowed);
  return answer;
}

void FolderWatch::Close(const Napi::CallbackInfo&) { queue_.reset(); }

}  // namespace sculptor
