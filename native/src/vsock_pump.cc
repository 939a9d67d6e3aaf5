#include "vsock_pump.h"

#include <linux/vm_sockets.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace sculptor {
namespace {

// Keys of epoll: a pair is (id << 1) | side, ids begin at 1.
constexpr uint64_t kWakeKey = 0, kListenKey = 1;
constexpr int kBacklog = 64;
// How often those that must end by a time, and a listener that rests, are looked at.
constexpr int kTickMs = 500;

[[noreturn]] void Throw(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

Fd Made(int fd, const char* what) {
  if (fd < 0) Throw(what);
  return Fd(fd);
}

sockaddr_vm Address(uint32_t cid, uint32_t port) {
  sockaddr_vm address = {};
  address.svm_family = AF_VSOCK;
  address.svm_cid = cid;
  address.svm_port = port;
  return address;
}

std::pair<Fd, Fd> SocketPair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
    Throw("socketpair");
  return {Fd(ends[0]), Fd(ends[1])};
}

Fd VsockSocket() {
  return Made(socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket(AF_VSOCK)");
}

}  // namespace

VsockPump::VsockPump(uint32_t most)
    : most_(most),
      epoll_(Made(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
      wake_(Made(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = kWakeKey;
  if (epoll_ctl(epoll_.Get(), EPOLL_CTL_ADD, wake_.Get(), &event) != 0) Throw("epoll_ctl");
  thread_ = std::thread([this] { Run(); });
}

VsockPump::~VsockPump() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  eventfd_write(wake_.Get(), 1);
  thread_.join();
}

void VsockPump::Listen(uint32_t port, Accepted accepted) {
  Fd fd = VsockSocket();
  sockaddr_vm address = Address(VMADDR_CID_ANY, port);
  if (bind(fd.Get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Throw("bind");
  if (listen(fd.Get(), kBacklog) != 0) Throw("listen");
  std::lock_guard<std::mutex> lock(mutex_);
  new_listener_.reset(new Listener{std::move(fd), std::move(accepted)});
  eventfd_write(wake_.Get(), 1);
}

Fd VsockPump::Dial(uint32_t cid, uint32_t port) {
  Fd remote = VsockSocket();
  auto [mine, nodes] = SocketPair();
  sockaddr_vm address = Address(cid, port);
  int result = connect(remote.Get(), reinterpret_cast<sockaddr*>(&address), sizeof(address));
  if (result != 0 && errno != EINPROGRESS) Throw("connect");
  if (!Claim()) {
    errno = EMFILE;
    Throw("more connections than allowed");
  }
  auto pair = std::make_unique<StreamPair>(std::move(remote), std::move(mine), result != 0);
  std::lock_guard<std::mutex> lock(mutex_);
  dialled_.push_back(std::move(pair));
  eventfd_write(wake_.Get(), 1);
  return std::move(nodes);
}

void VsockPump::Run() {
  for (;;) {
    bool ticking = resting_;
    for (const auto& [id, pair] : pairs_) ticking |= pair->Leaving();
    epoll_event events[64];
    int count = epoll_wait(epoll_.Get(), events, 64, ticking ? kTickMs : -1);
    Time now = std::chrono::steady_clock::now();
    for (int i = 0; i < count; i++) {
      const uint64_t key = events[i].data.u64;
      if (key == kWakeKey) {
        Take();
      } else if (key == kListenKey) {
        Accept();
      } else {
        Advance(key, events[i].events, now);
      }
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (stop_) return;
    }
    Settle(now);
  }
}

void VsockPump::Take() {
  eventfd_t ignored;
  eventfd_read(wake_.Get(), &ignored);
  std::vector<std::unique_ptr<StreamPair>> dialled;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    dialled.swap(dialled_);
    if (new_listener_) {
      listener_ = std::move(new_listener_);
      resting_ = true;
    }
  }
  for (auto& pair : dialled) Add(std::move(pair));
}

// One connection a turn: those that are open go on beside a storm of new ones.
void VsockPump::Accept() {
  sockaddr_vm peer = {};
  socklen_t length = sizeof(peer);
  int fd = accept4(listener_->fd.Get(), reinterpret_cast<sockaddr*>(&peer), &length,
                   SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
    Fail(errno);
    // No descriptor or no memory is left: what waits stays ready, and would be tried for ever.
    epoll_ctl(epoll_.Get(), EPOLL_CTL_DEL, listener_->fd.Get(), nullptr);
    resting_ = true;
    rest_until_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(kTickMs);
    return;
  }
  Fd remote(fd);
  if (!Claim()) return;
  try {
    auto [mine, nodes] = SocketPair();
    auto pair = std::make_unique<StreamPair>(std::move(remote), std::move(mine), false);
    if (listener_->accepted(std::move(nodes), peer.svm_cid)) {
      Add(std::move(pair));
      return;
    }
    counts_.refused++;
  } catch (const std::system_error& error) {
    Fail(error.code().value());
  }
  counts_.open--;
}

// After the events of a turn: the listener watches again, and those who had their time end.
void VsockPump::Settle(Time now) {
  if (resting_ && now >= rest_until_) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.u64 = kListenKey;
    if (epoll_ctl(epoll_.Get(), EPOLL_CTL_ADD, listener_->fd.Get(), &event) == 0) resting_ = false;
  }
  std::vector<uint64_t> overdue;
  for (const auto& [id, pair] : pairs_)
    if (pair->Overdue(now)) overdue.push_back(id);
  for (uint64_t id : overdue) {
    Fail(ETIMEDOUT);
    End(id);
  }
}

void VsockPump::Add(std::unique_ptr<StreamPair> pair) {
  const uint64_t id = next_++;
  StreamPair& added = *pair;
  pairs_.emplace(id, std::move(pair));
  Watch(id, added);
}

void VsockPump::Advance(uint64_t key, uint32_t events, Time now) {
  const uint64_t id = key >> 1;
  auto found = pairs_.find(id);
  // It ended earlier in this turn.
  if (found == pairs_.end()) return;
  StreamPair& pair = *found->second;
  if (pair.Advance(static_cast<StreamPair::Side>(key & 1), events, now)) {
    Watch(id, pair);
    return;
  }
  if (pair.error() != 0) Fail(pair.error());
  End(id);
}

void VsockPump::Watch(uint64_t id, StreamPair& pair) {
  for (auto side : {StreamPair::kRemote, StreamPair::kLocal}) {
    const uint32_t wanted = pair.Wanted(side);
    uint32_t& watched = pair.watched[side];
    if (wanted == watched) continue;
    epoll_event event = {};
    event.events = wanted;
    event.data.u64 = id << 1 | side;
    const int operation = watched == 0  ? EPOLL_CTL_ADD
                          : wanted == 0 ? EPOLL_CTL_DEL
                                        : EPOLL_CTL_MOD;
    if (epoll_ctl(epoll_.Get(), operation, pair.FdOf(side), &event) != 0) {
      Fail(errno);
      End(id);
      return;
    }
    watched = wanted;
  }
}

void VsockPump::End(uint64_t id) {
  if (pairs_.erase(id) > 0) counts_.open--;
}

// Room for one more; counted on both threads.
bool VsockPump::Claim() {
  if (counts_.open.fetch_add(1) < most_) return true;
  counts_.open--;
  counts_.refused++;
  return false;
}

void VsockPump::Fail(int error) {
  counts_.failed++;
  counts_.last_error = error;
}

}  // namespace sculptor
