#include "vsock.h"

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "errors.h"

namespace sculptor {
namespace {

uint32_t Number(const Napi::Value& value) { return value.As<Napi::Number>().Uint32Value(); }

Napi::Error Failure(Napi::Env env, const std::system_error& error, const std::string& what) {
  return SystemError(env, error.code().value(), what);
}

}  // namespace

// A process opens one or two of them: a class that is defined anew each time needs no place to
// live.
Napi::Value VsockBridge::Open(const Napi::CallbackInfo& info) {
  Napi::Function constructor = DefineClass(
      info.Env(), "VsockBridge",
      {InstanceMethod("listen", &VsockBridge::Listen), InstanceMethod("dial", &VsockBridge::Dial),
       InstanceMethod("counters", &VsockBridge::Counters),
       InstanceMethod("close", &VsockBridge::Close)});
  return constructor.New({info[0]});
}

VsockBridge::VsockBridge(const Napi::CallbackInfo& info) : Napi::ObjectWrap<VsockBridge>(info) {
  try {
    const uint32_t most = Number(info[0].As<Napi::Object>().Get("maxConnections"));
    pump_ = std::make_unique<VsockPump>(most);
  } catch (const std::system_error& error) {
    throw Failure(info.Env(), error, "open a vsock bridge");
  }
}

VsockBridge::~VsockBridge() { End(); }

void VsockBridge::Listen(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  VsockPump& pump = Opened(env);
  if (listens_) throw SystemError(env, EALREADY, "listen on vsock");
  const uint32_t port = Number(info[0]);
  to_node_ = ToNode::New(env, info[1].As<Napi::Function>(), "vsock", kMostWaiting, 1);
  // Whoever listens decides what keeps the process alive.
  to_node_.Unref(env);
  listens_ = true;
  // Runs before the function's own hook, which was set before: the thread never calls one that is
  // gone.
  napi_add_env_cleanup_hook(env, EndAtExit, this);
  try {
    pump.Listen(port, [to_node = to_node_](Fd fd, uint32_t cid) {
      auto connection = std::make_unique<Connection>(Connection{std::move(fd), cid});
      if (to_node.NonBlockingCall(connection.get()) != napi_ok) return false;
      connection.release();
      return true;
    });
  } catch (const std::system_error& error) {
    StopListening();
    throw Failure(env, error, "listen on vsock port " + std::to_string(port));
  }
}

// On the main thread. Without `env` Node is going, or the bridge was closed: the connection ends
// here.
void VsockBridge::HandOver(Napi::Env env, Napi::Function accepted, void*, Connection* waiting) {
  std::unique_ptr<Connection> connection(waiting);
  if (static_cast<napi_env>(env) == nullptr) return;
  Napi::Value cid = Napi::Number::New(env, connection->cid);
  Napi::Value fd = Napi::Number::New(env, connection->fd.Get());
  connection->fd.Release();
  accepted.Call({fd, cid});
}

Napi::Value VsockBridge::Dial(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const uint32_t cid = Number(info[0]), port = Number(info[1]);
  try {
    return Napi::Number::New(env, Opened(env).Dial(cid, port).Release());
  } catch (const std::system_error& error) {
    throw Failure(env, error, "dial vsock " + std::to_string(cid) + ":" + std::to_string(port));
  }
}

Napi::Value VsockBridge::Counters(const Napi::CallbackInfo& info) {
  const VsockCounts& counts = Opened(info.Env()).counts();
  const int last = counts.last_error;
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("open", counts.open.load());
  result.Set("refused", counts.refused.load());
  result.Set("failed", counts.failed.load());
  const char* name = last == 0 ? nullptr : strerrorname_np(last);
  result.Set("lastFailure",
             name ? Napi::Value(Napi::String::New(info.Env(), name)) : info.Env().Null());
  return result;
}

void VsockBridge::Close(const Napi::CallbackInfo&) { End(); }

void VsockBridge::End() {
  // The thread first: it may be handing over.
  pump_.reset();
  if (listens_) StopListening();
}

void VsockBridge::EndAtExit(void* bridge) { static_cast<VsockBridge*>(bridge)->End(); }

void VsockBridge::StopListening() {
  to_node_.Abort();
  listens_ = false;
  napi_remove_env_cleanup_hook(Env(), EndAtExit, this);
}

VsockPump& VsockBridge::Opened(Napi::Env env) const {
  if (!pump_) throw SystemError(env, EBADF, "vsock bridge");
  return *pump_;
}

}  // namespace sculptor
