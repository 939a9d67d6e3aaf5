// One thread that accepts and dials AF_VSOCK connections and carries each to a unix socket that
// Node can use. It knows nothing of JavaScript.
#ifndef SCULPTOR_VSOCK_PUMP_H_
#define SCULPTOR_VSOCK_PUMP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "fd.h"
#include "stream_pair.h"

namespace sculptor {

struct VsockCounts {
  std::atomic<uint32_t> open{0};     // now
  std::atomic<uint32_t> refused{0};  // more connections than allowed
  std::atomic<uint32_t> failed{0};   // ended by an error, or could not be made
  std::atomic<int> last_error{0};    // errno of the last failure
};

class VsockPump {
 public:
  // Called on the pump's thread with Node's end of a connection and its peer's context id. False:
  // nobody takes it.
  using Accepted = std::function<bool(Fd fd, uint32_t cid)>;

  // Throws std::system_error.
  explicit VsockPump(uint32_t most);
  ~VsockPump();

  // Throws std::system_error. Once.
  void Listen(uint32_t port, Accepted accepted);
  // Node's end of a connection that is being made: it ends when none can be made. Throws
  // std::system_error.
  Fd Dial(uint32_t cid, uint32_t port);
  const VsockCounts& counts() const { return counts_; }

 private:
  using Time = StreamPair::Time;
  struct Listener {
    Fd fd;
    Accepted accepted;
  };

  void Run();
  void Take();
  void Accept();
  void Settle(Time now);
  void Add(std::unique_ptr<StreamPair> pair);
  void Advance(uint64_t key, uint32_t events, Time now);
  void Watch(uint64_t id, StreamPair& pair);
  void End(uint64_t id);
  bool Claim();
  void Fail(int error);

  const uint32_t most_;
  Fd epoll_, wake_;
  std::mutex mutex_;  // guards the next three
  bool stop_ = false;
  std::vector<std::unique_ptr<StreamPair>> dialled_;
  std::unique_ptr<Listener> new_listener_;
  // The thread's own.
  std::unique_ptr<Listener> listener_;
  bool resting_ = false;  // not watched by epoll, until then:
  Time rest_until_{};
  std::map<uint64_t, std::unique_ptr<StreamPair>> pairs_;
  uint64_t next_ = 1;
  VsockCounts counts_;
  std::thread thread_;
};

}  // namespace sculptor

#endif  // SCULPTOR_VSOCK_PUMP_H_
