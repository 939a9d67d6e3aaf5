// A file descriptor that is closed with its owner.
#ifndef SCULPTOR_FD_H_
#define SCULPTOR_FD_H_

#include <unistd.h>

namespace sculptor {

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(Fd&& other) noexcept : fd_(other.Release()) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int Get() const { return fd_; }
  // Gives up ownership: the caller closes it.
  int Release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

}  // namespace sculptor

#endif  // SCULPTOR_FD_H_
