#include "stream_pair.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace sculptor {
namespace {

constexpr size_t kBufferBytes = 32 * 1024;

bool Later(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

StreamPair::StreamPair(Fd remote, Fd local, bool connecting)
    : remote_(std::move(remote)), local_(std::move(local)), connecting_(connecting) {
  inward_.buffer.resize(kBufferBytes);
  outward_.buffer.resize(kBufferBytes);
}

bool StreamPair::Advance(Side side, uint32_t events, Time now) {
  if (connecting_) {
    if (side == kRemote && !Connected()) return false;
    // Node has given up before the connection was there.
    if (side == kLocal && (events & EPOLLHUP)) return false;
    if (connecting_) return true;
  }
  if (side == kLocal && (events & EPOLLHUP) && !local_gone_) {
    // Both directions are closed there: nobody is left to read what the remote says.
    local_gone_ = true;
    deadline_ = now + kFarewell;
    inward_.ended = inward_.closed = true;
  }
  if (!local_gone_ && !Move(inward_, remote_.Get(), local_.Get())) return false;
  if (!Move(outward_, local_.Get(), remote_.Get())) return false;
  return !(inward_.closed && outward_.closed);
}

bool StreamPair::Connected() {
  int error = 0;
  socklen_t length = sizeof(error);
  if (getsockopt(remote_.Get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  error_ = error;
  connecting_ = false;
  return error == 0;
}

bool StreamPair::Move(Flow& flow, int from, int to) {
  if (!Read(flow, from) || !Write(flow, to)) return false;
  if (flow.ended && flow.Empty() && !flow.closed) {
    // ENOTCONN: the other end went first, and there is nothing to tell it.
    if (shutdown(to, SHUT_WR) != 0 && errno != ENOTCONN) {
      error_ = errno;
      return false;
    }
    flow.closed = true;
  }
  return true;
}

bool StreamPair::Read(Flow& flow, int from) {
  if (flow.ended || !flow.Empty()) return true;
  ssize_t got = recv(from, flow.buffer.data(), flow.buffer.size(), 0);
  if (got < 0) {
    if (Later(errno)) return true;
    error_ = errno;
    return false;
  }
  flow.begin = 0;
  flow.end = got;
  flow.ended = got == 0;
  return true;
}

bool StreamPair::Write(Flow& flow, int to) {
  while (!flow.Empty()) {
    ssize_t put = send(to, flow.buffer.data() + flow.begin, flow.end - flow.begin, MSG_NOSIGNAL);
    if (put < 0) {
      if (Later(errno)) return true;
      error_ = errno;
      return false;
    }
    flow.begin += put;
  }
  return true;
}

uint32_t StreamPair::Wanted(Side side) const {
  // The end of the local side must always be seen: epoll tells EPOLLHUP of whatever it watches.
  if (connecting_) return side == kRemote ? EPOLLOUT : EPOLLPRI;
  const Flow& reads = side == kRemote ? inward_ : outward_;
  const Flow& writes = side == kRemote ? outward_ : inward_;
  uint32_t events = 0;
  if (!reads.ended && reads.Empty()) events |= EPOLLIN;
  if (!writes.Empty()) events |= EPOLLOUT;
  if (side == kLocal && events == 0 && !local_gone_) return EPOLLPRI;
  return events;
}

}  // namespace sculptor
