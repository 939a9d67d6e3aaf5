#include <bpf/libbpf.h>
#include <napi.h>

#include <string>

#include "affinity.h"
#include "bpf_object.h"
#include "end_within.h"
#include "file_pages.h"
#include "folder_lock.h"
#include "folder_watch.h"
#include "peercred.h"
#include "read_aside.h"
#include "vsock.h"

namespace sculptor {
namespace {

Napi::Value LibbpfVersion(const Napi::CallbackInfo& info) {
  // "v1.1" as libbpf writes it; the number alone.
  return Napi::String::New(info.Env(), libbpf_version_string() + 1);
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  BpfObject::Init(env);
  exports.Set("peerCredentials", Napi::Function::New(env, PeerCredentials));
  exports.Set("getAffinity", Napi::Function::New(env, GetAffinity));
  exports.Set("setAffinity", Napi::Function::New(env, SetAffinity));
  exports.Set("dropFilePages", Napi::Function::New(env, DropFilePages));
  exports.Set("readAside", Napi::Function::New(env, ReadAside));
  exports.Set("endWithin", Napi::Function::New(env, EndWithin));
  exports.Set("loadObject", Napi::Function::New(env, BpfObject::Load));
  exports.Set("lockFolder", Napi::Function::New(env, LockFolder));
  exports.Set("openFolderWatch", Napi::Function::New(env, FolderWatch::Open));
  exports.Set("openVsockBridge", Napi::Function::New(env, VsockBridge::Open));
  exports.Set("libbpfVersion", Napi::Function::New(env, LibbpfVersion));
  return exports;
}

}  // namespace
}  // namespace sculptor

static Napi::Object InitModule(Napi::Env env, Napi::Object exports) {
  return sculptor::Init(env, exports);
}
NODE_API_MODULE(sculptor, InitModule)
