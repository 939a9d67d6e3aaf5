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
#include <string_view>
#include <utility>

#include "bytes.h"
#include "errors.h"
#include "fd.h"

namespace sculptor {
namespace {

// Readings that wait at the same time, each in a thread: whoever makes so many wait keeps others
// from being read, but the process from nothing else.
constexpr size_t kMostWaiting = 64;
constexpr size_t kStackBytes = 128 * 1024;
// So many times the patience is waited for a thread that has no CPU.
constexpr int kMostBusy = 10;

// A thread that reads one file after another, and ends after one that was given up on. What follows
// the mutex is guarded by it.
struct Reader {
  std::mutex mutex;
  std::condition_variable asked, answered;
  pid_t tid = 0;  // Not before it runs.
  bool is_asked = false;
  bool is_given_up = false;
  std::string path;
  size_t most = 0;
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
  std::unique_ptr<std::shared_ptr<Reader>> held(static_cast<std::shared_ptr<Reader>*>(given));
  Reader& reader = **held;
  std::unique_lock<std::mutex> lock(reader.mutex);
  reader.tid = gettid();
  while (!reader.is_given_up) {
    reader.asked.wait(lock, [&] { return reader.is_asked; });
    // Nobody writes to these meanwhile.
    lock.unlock();
    try {
      reader.error = ReadUpTo(reader.path, reader.most, &reader.bytes);
    } catch (const std::bad_alloc&) {
      reader.error = ENOMEM;
    }
    lock.lock();
    reader.is_asked = false;
    reader.answered.notify_one();
  }
  return nullptr;
}

// Answers an errno, or 0.
int Start(const std::shared_ptr<Reader>& reader) {
  auto held = std::make_unique<std::shared_ptr<Reader>>(reader);
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

// Whether the thread could go on and only has no CPU: its host is busy, and nobody keeps it
// waiting.
bool IsRunnable(pid_t tid) {
  if (tid == 0) return true;
  Fd fd(open(("/proc/self/task/" + std::to_string(tid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char text[64];
  ssize_t got = fd.Get() < 0 ? 0 : read(fd.Get(), text, sizeof(text));
  // A name has no parenthesis here: the thread has that of the process, which is Node's.
  std::string_view stat(text, std::max<ssize_t>(got, 0));
  return stat.find(") R") != std::string_view::npos;
}

bool IsAsked(Reader& reader) {
  std::lock_guard<std::mutex> lock(reader.mutex);
  return reader.is_asked;
}

// Of the main thread, and never destroyed, since threads may end after it.
struct Readers {
  // Waits to be asked; null: none was started, or the last one was given up on.
  std::shared_ptr<Reader> idle;
  // Those that were given up on, and read still.
  std::map<std::string, std::shared_ptr<Reader>> waiting;
};
Readers& All() {
  static auto* all = new Readers();
  return *all;
}

}  // namespace

Napi::Value ReadAside(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path = info[0].As<Napi::String>();
  size_t most = info[1].As<Napi::Number>().Int64Value();
  std::chrono::milliseconds patience(info[2].As<Napi::Number>().Int64Value());

  auto& [idle, waiting] = All();
  for (auto at = waiting.begin(); at != waiting.end();) {
    at = IsAsked(*at->second) ? std::next(at) : waiting.erase(at);
  }
  // The one before waits still: so would this one.
  if (waiting.count(path) > 0) throw SystemError(env, ETIMEDOUT, "read " + path);
  if (waiting.size() >= kMostWaiting) throw SystemError(env, EAGAIN, "read " + path);

  if (!idle) {
    auto reader = std::make_shared<Reader>();
    int error = Start(reader);
    if (error) throw SystemError(env, error, "a thread to read " + path);
    idle = reader;
  }
  std::unique_lock<std::mutex> lock(idle->mutex);
  idle->path = path;
  idle->most = most;
  idle->is_asked = true;
  idle->asked.notify_one();
  auto is_answered = [&reader = *idle] { return !reader.is_asked; };
  bool is_there = idle->answered.wait_for(lock, patience, is_answered);
  for (int more = 0; more < kMostBusy && !is_there && IsRunnable(idle->tid); ++more) {
    is_there = idle->answered.wait_for(lock, patience, is_answered);
  }
  if (!is_there) {
    idle->is_given_up = true;
    lock.unlock();
    waiting.emplace(path, std::move(idle));
    idle.reset();
    throw SystemError(env, ETIMEDOUT, "read " + path);
  }
  if (idle->error) throw SystemError(env, idle->error, "read " + path);
  Bytes& bytes = idle->bytes;
  return Napi::Buffer<char>::Copy(env, bytes.data(), bytes.size());
}

}  // namespace sculptor
