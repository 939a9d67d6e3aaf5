// Carries bytes between two stream sockets, both ways, with half-closes; never more than a buffer a
// way is held.
#ifndef SCULPTOR_STREAM_PAIR_H_
#define SCULPTOR_STREAM_PAIR_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fd.h"

namespace sculptor {

// The one who made the pair may end; the other one has this long to take what is left for it.
constexpr std::chrono::seconds kFarewell{5};

class StreamPair {
 public:
  enum Side { kRemote = 0, kLocal = 1 };
  using Time = std::chrono::steady_clock::time_point;

  // `remote` is a vsock, `local` one end of a socketpair whose other end Node has. Both must not
  // block.
  StreamPair(Fd remote, Fd local, bool connecting);

  // Takes what epoll said of one side, and moves what can be moved. False: the pair is over, and
  // `error()` says why (0: both sides ended in order).
  bool Advance(Side side, uint32_t events, Time now);
  // Whether its other end has gone for too long.
  bool Overdue(Time now) const { return local_gone_ && now > deadline_; }
  bool Leaving() const { return local_gone_; }
  // Events to wait for on a side; 0 when there is nothing to wait for but the end of the other.
  uint32_t Wanted(Side side) const;
  int FdOf(Side side) const { return side == kRemote ? remote_.Get() : local_.Get(); }
  int error() const { return error_; }

  // What epoll watches each side for now (0: not at all); kept by the owner.
  uint32_t watched[2] = {0, 0};

 private:
  struct Flow {
    std::vector<char> buffer;
    size_t begin = 0, end = 0;
    bool ended = false;   // nothing more will be read
    bool closed = false;  // the end was passed on
    bool Empty() const { return begin == end; }
  };

  bool Connected();
  bool Move(Flow& flow, int from, int to);
  bool Read(Flow& flow, int from);
  bool Write(Flow& flow, int to);

  Fd remote_, local_;
  bool connecting_;
  bool local_gone_ = false;
  Time deadline_{};
  int error_ = 0;
  Flow inward_, outward_;  // remote → local, local → remote
};

}  // namespace sculptor

#endif  // SCULPTOR_STREAM_PAIR_H_
