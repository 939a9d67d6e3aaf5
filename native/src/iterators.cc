#include "iterators.h"

#include <bpf/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "bytes.h"
#include "errors.h"
#include "fd.h"

namespace sculptor {
namespace {

// All that an iterator writes; answers an errno, or 0.
int ReadToEnd(const Fd& fd, Bytes* written) {
  // The kernel hands out at most 32 KB a read.
  constexpr size_t kChunk = 32 * 1024;
  size_t length = 0;
  for (;;) {
    if (written->size() < length + kChunk) written->resize(2 * length + kChunk);
    ssize_t got = read(fd.Get(), written->data() + length, kChunk);
    // EAGAIN: a million tasks were visited and nothing was written yet.
    if (got < 0 && errno != EAGAIN && errno != EINTR) return errno;
    if (got == 0) break;
    if (got > 0) length += got;
  }
  written->resize(length);
  return 0;
}

// Reads an iterator on another thread: it may wait for a lock that its task holds.
class IteratorReader : public Napi::AsyncWorker {
 public:
  IteratorReader(Napi::Env env, std::string name, Fd fd)
      : Napi::AsyncWorker(env), deferred_(env), name_(std::move(name)), fd_(std::move(fd)) {}
  Napi::Promise Promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override { error_ = ReadToEnd(fd_, &written_); }
  // Out of memory.
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }
  void OnOK() override {
    if (error_) {
      deferred_.Reject(SystemError(Env(), error_, "read iterator " + name_).Value());
    } else {
      deferred_.Resolve(Napi::Buffer<char>::Copy(Env(), written_.data(), written_.size()));
    }
  }

 private:
  Napi::Promise::Deferred deferred_;
  std::string name_;
  Fd fd_;
  Bytes written_;
  int error_ = 0;
};

Fd OpenIterator(Napi::Env env, const std::string& name, bpf_link* link) {
  Fd fd(bpf_iter_create(bpf_link__fd(link)));
  if (fd.Get() < 0) throw SystemError(env, errno, "iterator " + name);
  return fd;
}

}  // namespace

bpf_link* AttachIterator(bpf_program* program, const bpf_iter_link_info* over) {
  if (!over) return bpf_program__attach_iter(program, nullptr);
  LIBBPF_OPTS(bpf_iter_attach_opts, options, .link_info = const_cast<bpf_iter_link_info*>(over),
              .link_info_len = sizeof(*over));
  return bpf_program__attach_iter(program, &options);
}

Napi::Value ReadIterator(Napi::Env env, const std::string& name, bpf_link* link) {
  Fd fd = OpenIterator(env, name, link);
  Bytes written;
  int error = ReadToEnd(fd, &written);
  if (error) throw SystemError(env, error, "read iterator " + name);
  return Napi::Buffer<char>::Copy(env, written.data(), written.size());
}

Napi::Value ReadIteratorAside(Napi::Env env, const std::string& name, bpf_link* link) {
  auto* reader = new IteratorReader(env, name, OpenIterator(env, name, link));
  reader->Queue();
  return reader->Promise();
}

}  // namespace sculptor
