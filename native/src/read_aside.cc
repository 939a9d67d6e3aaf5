#include "read_aside.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>

#include "bytes.h"
#include "errors.h"
#include "fd.h"

namespace sculptor {
namespace {

// Readings that wait at the same time, each a thread: whoever makes so many wait keeps others from
// being read, but the process from nothing else.
constexpr size_t kMostWaiting = 64;
constexpr size_t kStackBytes = 128 * 1024;

struct Reading {
  const std::string path;
  const size_t most;
  std::mutex mutex;
  std::condition_variable ended;
  bool done = false;
  int error = 0;
  Bytes bytes;
};

// Answers an errno, or 0.
int ReadUpTo(const std::string& path, size_t most, Bytes* bytes) {
  constexpr size_t kChunk = 16 * 1024;
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.Get() < 0) return errno;
  size_t length = 0;
  while (length < most) {
    bytes->resize(std::min(most, length + kChunk));
    ssize_t got = read(fd.Get(), bytes->data() + length, bytes->size() - length);
    if (got < 0 && errno != EINTR) return errno;
    if (got == 0) break;
    if (got > 0) length += got;
  }
  bytes->resize(length);
  return 0;
}

void* Run(void* given) {
  std::unique_ptr<std::shared_ptr<Reading>> held(static_cast<std::shared_ptr<Reading>*>(given));
  Reading& reading = **held;
  Bytes bytes;
  int error;
  try {
    error = ReadUpTo(reading.path, reading.most, &bytes);
  } catch (const std::bad_alloc&) {
    error = ENOMEM;
  }
  std::lock_guard<std::mutex> lock(reading.mutex);
  reading.bytes = std::move(bytes);
  reading.error = error;
  reading.done = true;
  reading.ended.notify_one();
  return nullptr;
}

// Answers an errno, or 0.
int Start(const std::shared_ptr<Reading>& reading) {
  auto held = std::make_unique<std::shared_ptr<Reading>>(reading);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  // Signals are the main thread's, and Node's own.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  int error = pthread_create(&thread, &attributes, Run, held.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (!error) held.release();
  return error;
}

bool IsDone(Reading& reading) {
  std::lock_guard<std::mutex> lock(reading.mutex);
  return reading.done;
}

// Those that were given up on and wait still. Of the main thread; never destroyed, since a thread
// may end after it.
std::map<std::string, std::shared_ptr<Reading>>& Waiting() {
  static auto* waiting = new std::map<std::string, std::shared_ptr<Reading>>();
  return *waiting;
}

}  // namespace

Napi::Value ReadAside(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path = info[0].As<Napi::String>();
  size_t most = info[1].As<Napi::Number>().Int64Value();
  std::chrono::milliseconds patience(info[2].As<Napi::Number>().Int64Value());

  auto& waiting = Waiting();
  for (auto at = waiting.begin(); at != waiting.end();) {
    at = IsDone(*at->second) ? waiting.erase(at) : std::next(at);
  }
  // The one before waits still: so would this one.
  if (waiting.count(path) > 0) throw SystemError(env, ETIMEDOUT, "read " + path);
  if (waiting.size() >= kMostWaiting) throw SystemError(env, EAGAIN, "read " + path);

  std::shared_ptr<Reading> reading(new Reading{path, most, {}, {}, false, 0, {}});
  int error = Start(reading);
  if (error) throw SystemError(env, error, "a thread to read " + path);
  std::unique_lock<std::mutex> lock(reading->mutex);
  if (!reading->ended.wait_for(lock, patience, [&] { return reading->done; })) {
    waiting.emplace(path, reading);
    throw SystemError(env, ETIMEDOUT, "read " + path);
  }
  if (reading->error) throw SystemError(env, reading->error, "read " + path);
  return Napi::Buffer<char>::Copy(env, reading->bytes.data(), reading->bytes.size());
}

}  // namespace sculptor
