// AF_VSOCK for Node, which has none: libuv refuses such descriptors. Each connection is carried to
// a unix socket.
#ifndef SCULPTOR_VSOCK_H_
#define SCULPTOR_VSOCK_H_

#include <napi.h>

#include <memory>

#include "vsock_pump.h"

namespace sculptor {

// openVsockBridge({maxConnections}): see index.d.ts.
class VsockBridge : public Napi::ObjectWrap<VsockBridge> {
 public:
  static Napi::Value Open(const Napi::CallbackInfo& info);
  explicit VsockBridge(const Napi::CallbackInfo& info);
  ~VsockBridge() override;

 private:
  struct Connection {
    Fd fd;
    uint32_t cid;
  };
  // Connections that wait for the main thread; more are refused.
  static constexpr size_t kMostWaiting = 64;
  static void HandOver(Napi::Env env, Napi::Function accepted, void* context,
                       Connection* connection);
  using ToNode = Napi::TypedThreadSafeFunction<void, Connection, HandOver>;

  void Listen(const Napi::CallbackInfo& info);
  Napi::Value Dial(const Napi::CallbackInfo& info);
  Napi::Value Counters(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void End();
  static void EndAtExit(void* bridge);
  void StopListening();
  VsockPump& Opened(Napi::Env env) const;

  std::unique_ptr<VsockPump> pump_;
  ToNode to_node_;
  bool listens_ = false;
};

}  // namespace sculptor

#endif  // SCULPTOR_VSOCK_H_
