// One BPF object file, loaded: its programs, iterators and maps.
#ifndef SCULPTOR_BPF_OBJECT_H_
#define SCULPTOR_BPF_OBJECT_H_

#include <bpf/libbpf.h>
#include <napi.h>

#include <map>
#include <memory>
#include <string>

namespace sculptor {

struct ObjectCloser {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
struct LinkDestroyer {
  void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};

class BpfObject : public Napi::ObjectWrap<BpfObject> {
 public:
  static void Init(Napi::Env env);
  // loadObject(path, options): opens and loads; throws with the verifier's log.
  static Napi::Value Load(const Napi::CallbackInfo& info);
  explicit BpfObject(const Napi::CallbackInfo& info);

 private:
  using Link = std::unique_ptr<bpf_link, LinkDestroyer>;

  void Open(Napi::Env env, const std::string& path, const Napi::Object& options);
  void Configure(Napi::Env env, const Napi::Object& options);
  void SetAutoload(Napi::Env env, const Napi::Array& names, bool load);
  void Attach(const Napi::CallbackInfo& info);
  void AttachSoftwareEvent(const Napi::CallbackInfo& info);
  Napi::Value Iterate(const Napi::CallbackInfo& info);
  Napi::Value IterateThread(const Napi::CallbackInfo& info);
  Napi::Value RunOnce(const Napi::CallbackInfo& info);
  Napi::Value RunRaw(const Napi::CallbackInfo& info);
  Napi::Value RunIterator(const Napi::CallbackInfo& info, const bpf_iter_link_info* over);
  Napi::Value MapMemory(const Napi::CallbackInfo& info);
  Napi::Value ReadMap(const Napi::CallbackInfo& info);
  Napi::Value TakeMap(const Napi::CallbackInfo& info);
  Napi::Value ReadSums(const Napi::CallbackInfo& info);
  Napi::Value TakeSums(const Napi::CallbackInfo& info);
  Napi::Value ReadWord(const Napi::CallbackInfo& info);
  Napi::Value Lookup(const Napi::CallbackInfo& info);
  Napi::Value LookupSums(const Napi::CallbackInfo& info);
  Napi::Value DeleteKeys(const Napi::CallbackInfo& info);
  Napi::Value MemoryBytes(const Napi::CallbackInfo& info);
  Napi::Value ProgramStats(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  bpf_object* Opened(Napi::Env env) const;
  bpf_map* Map(const Napi::CallbackInfo& info, size_t argument = 0) const;
  bpf_program* Program(const Napi::CallbackInfo& info) const;

  std::unique_ptr<bpf_object, ObjectCloser> object_;
  std::map<std::string, Link> links_;
  // Of programs that are attached to an event of each CPU.
  std::map<std::string, std::map<int, Link>> cpu_links_;
};

}  // namespace sculptor

#endif  // SCULPTOR_BPF_OBJECT_H_
