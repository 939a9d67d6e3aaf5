#include "bpf_object.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <iterator>
#include <set>

#include "bpf_constants.h"
#include "errors.h"
#include "fd.h"
#include "iterators.h"
#include "libbpf_log.h"
#include "map_reader.h"
#include "software_event.h"

namespace sculptor {
namespace {

// libbpf before 1.2 gives an object up when it may not list the BTF of modules, which takes
// CAP_SYS_ADMIN, though it only wants to know that what vmlinux lacks is not there either. It asks
// once for each object: so it is made to ask, for a function that no kernel has, where the answer
// does no harm.
void KeepToVmlinux(bpf_object* object) {
  uint32_t first;
  if (bpf_btf_get_next_id(0, &first) == 0 || errno != EPERM) return;
  bpf_program* program = bpf_object__next_program(object, nullptr);
  if (program) bpf_program__set_attach_target(program, 0, "of no kernel");
  TakeLibbpfLog();
}

}  // namespace

void BpfObject::Init(Napi::Env env) {
  libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
  KeepLibbpfLog();
  Napi::Function constructor =
      DefineClass(env, "BpfObject",
                  {
                      InstanceMethod("attach", &BpfObject::Attach),
                      InstanceMethod("attachSoftwareEvent", &BpfObject::AttachSoftwareEvent),
                      InstanceMethod("iterate", &BpfObject::Iterate),
                      InstanceMethod("iterateThread", &BpfObject::IterateThread),
                      InstanceMethod("runOnce", &BpfObject::RunOnce),
                      InstanceMethod("runRaw", &BpfObject::RunRaw),
                      InstanceMethod("readMap", &BpfObject::ReadMap),
                      InstanceMethod("mapMemory", &BpfObject::MapMemory),
                      InstanceMethod("takeMap", &BpfObject::TakeMap),
                      InstanceMethod("readSums", &BpfObject::ReadSums),
                      InstanceMethod("takeSums", &BpfObject::TakeSums),
                      InstanceMethod("readWord", &BpfObject::ReadWord),
                      InstanceMethod("lookup", &BpfObject::Lookup),
                      InstanceMethod("lookupSums", &BpfObject::LookupSums),
                      InstanceMethod("deleteKeys", &BpfObject::DeleteKeys),
                      InstanceMethod("memoryBytes", &BpfObject::MemoryBytes),
                      InstanceMethod("programStats", &BpfObject::ProgramStats),
                      InstanceMethod("close", &BpfObject::Close),
                  });
  env.SetInstanceData(new Napi::FunctionReference(Napi::Persistent(constructor)));
}

Napi::Value BpfObject::Load(const Napi::CallbackInfo& info) {
  Napi::FunctionReference* constructor = info.Env().GetInstanceData<Napi::FunctionReference>();
  return constructor->New({info[0], info[1]});
}

BpfObject::BpfObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<BpfObject>(info) {
  Open(info.Env(), info[0].As<Napi::String>(), info[1].As<Napi::Object>());
}

void BpfObject::Open(Napi::Env env, const std::string& path, const Napi::Object& options) {
  TakeLibbpfLog();
  std::string types;
  if (options.Get("btf").IsString()) types = options.Get("btf").As<Napi::String>();
  LIBBPF_OPTS(bpf_object_open_opts, how,
              .btf_custom_path = types.empty() ? nullptr : types.c_str());
  bpf_object* opened = bpf_object__open_file(path.c_str(), &how);
  if (!opened) throw SystemError(env, errno, "open " + path, TakeLibbpfLog());
  object_.reset(opened);
  Configure(env, options);
  KeepToVmlinux(opened);
  int error = bpf_object__load(opened);
  if (error) throw SystemError(env, -error, "load " + path, TakeLibbpfLog());
}

void BpfObject::Configure(Napi::Env env, const Napi::Object& options) {
  if (options.Has("constants") && options.Get("constants").IsObject()) {
    SetConstants(object_.get(), options.Get("constants").As<Napi::Object>());
  }
  if (options.Has("maxEntries") && options.Get("maxEntries").IsObject()) {
    Napi::Object sizes = options.Get("maxEntries").As<Napi::Object>();
    for (const auto& entry : sizes) {
      std::string name = entry.first.ToString();
      bpf_map* map = bpf_object__find_map_by_name(object_.get(), name.c_str());
      if (!map) throw SystemError(env, ENOENT, "map " + name);
      Napi::Value value = sizes.Get(static_cast<Napi::Value>(entry.first));
      bpf_map__set_max_entries(map, value.As<Napi::Number>().Uint32Value());
    }
  }
  if (options.Has("plainHashes") && options.Get("plainHashes").IsArray()) {
    Napi::Array names = options.Get("plainHashes").As<Napi::Array>();
    for (uint32_t i = 0; i < names.Length(); i++) {
      std::string name = names.Get(i).As<Napi::String>();
      bpf_map* map = bpf_object__find_map_by_name(object_.get(), name.c_str());
      if (!map) throw SystemError(env, ENOENT, "map " + name);
      bpf_map__set_type(map, BPF_MAP_TYPE_HASH);
    }
  }
  if (options.Has("programs") && options.Get("programs").IsArray()) {
    bpf_program* program;
    bpf_object__for_each_program(program, object_.get()) bpf_program__set_autoload(program, false);
    SetAutoload(env, options.Get("programs").As<Napi::Array>(), true);
  }
  if (options.Has("without") && options.Get("without").IsArray())
    SetAutoload(env, options.Get("without").As<Napi::Array>(), false);
}

void BpfObject::SetAutoload(Napi::Env env, const Napi::Array& names, bool load) {
  for (uint32_t i = 0; i < names.Length(); i++) {
    std::string name = names.Get(i).As<Napi::String>();
    bpf_program* program = bpf_object__find_program_by_name(object_.get(), name.c_str());
    if (!program) throw SystemError(env, ENOENT, "program " + name);
    bpf_program__set_autoload(program, load);
  }
}

void BpfObject::Attach(const Napi::CallbackInfo& info) {
  bpf_program* program = Program(info);
  bpf_link* link = bpf_program__attach(program);
  std::string name = bpf_program__name(program);
  if (!link) throw SystemError(info.Env(), errno, "attach " + name, TakeLibbpfLog());
  links_[name].reset(link);
}

void BpfObject::AttachSoftwareEvent(const Napi::CallbackInfo& info) {
  bpf_program* program = Program(info);
  std::string name = bpf_program__name(program);
  std::set<int> wanted = CpuSet(info[2].As<Napi::Int32Array>());
  std::map<int, Link>& links = cpu_links_[name];
  for (auto link = links.begin(); link != links.end();) {
    link = wanted.count(link->first) ? std::next(link) : links.erase(link);
  }
  for (int cpu : wanted) {
    if (links.count(cpu)) continue;
    std::string where = " event of CPU " + std::to_string(cpu) + " for " + name;
    Fd event = OpenSoftwareEvent(info[1].As<Napi::Number>().Uint32Value(), cpu);
    if (event.Get() < 0) throw SystemError(info.Env(), errno, "open" + where);
    bpf_link* link = bpf_program__attach_perf_event(program, event.Get());
    if (!link) throw SystemError(info.Env(), errno, "attach" + where, TakeLibbpfLog());
    event.Release();
    links[cpu].reset(link);
  }
}

Napi::Value BpfObject::Iterate(const Napi::CallbackInfo& info) {
  if (!info[1].IsString()) return RunIterator(info, nullptr);
  bpf_iter_link_info over = {};
  over.map.map_fd = bpf_map__fd(Map(info, 1));
  return RunIterator(info, &over);
}

Napi::Value BpfObject::IterateThread(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  bpf_program* program = Program(info);
  std::string name = bpf_program__name(program);
  double tid = info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : 0;
  // The kernel takes 0 for all there are.
  if (!(tid >= 1 && tid <= INT32_MAX && tid == std::floor(tid))) {
    throw SystemError(env, EINVAL, "iterator " + name + ": no thread has this id");
  }
  bpf_iter_link_info over = {};
  over.task.tid = static_cast<uint32_t>(tid);
  Link link(AttachIterator(program, &over));
  if (!link) throw SystemError(env, errno, "attach iterator " + name, TakeLibbpfLog());
  return ReadIteratorAside(env, name, link.get());
}

Napi::Value BpfObject::RunOnce(const Napi::CallbackInfo& info) {
  bpf_iter_link_info over = {};
  over.task.tid = getpid();
  return RunIterator(info, &over);
}

Napi::Value BpfObject::RunRaw(const Napi::CallbackInfo& info) {
  bpf_program* program = Program(info);
  LIBBPF_OPTS(bpf_test_run_opts, run);
  if (bpf_prog_test_run_opts(bpf_program__fd(program), &run) != 0) {
    throw SystemError(info.Env(), errno, "run " + std::string(bpf_program__name(program)));
  }
  return Napi::Number::New(info.Env(), run.retval);
}

Napi::Value BpfObject::RunIterator(const Napi::CallbackInfo& info, const bpf_iter_link_info* over) {
  Napi::Env env = info.Env();
  bpf_program* program = Program(info);
  std::string name = bpf_program__name(program);
  Link& link = links_[name];
  if (!link) link.reset(AttachIterator(program, over));
  if (!link) throw SystemError(env, errno, "attach iterator " + name, TakeLibbpfLog());
  return ReadIterator(env, name, link.get());
}

Napi::Value BpfObject::ProgramStats(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object stats = Napi::Object::New(env);
  bpf_program* program;
  bpf_object__for_each_program(program, Opened(env)) {
    bpf_prog_info answer = {};
    uint32_t size = sizeof(answer);
    std::string name = bpf_program__name(program);
    int fd = bpf_program__fd(program);
    if (fd < 0) continue;  // not among the programs that were asked for
    if (bpf_obj_get_info_by_fd(fd, &answer, &size) != 0) {
      throw SystemError(env, errno, "statistics of program " + name);
    }
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("runs", static_cast<double>(answer.run_cnt));
    entry.Set("runNs", static_cast<double>(answer.run_time_ns));
    entry.Set("missed", static_cast<double>(answer.recursion_misses));
    stats.Set(name, entry);
  }
  return stats;
}

Napi::Value BpfObject::ReadMap(const Napi::CallbackInfo& info) {
  return ReadWholeMap(info.Env(), Map(info), false);
}

Napi::Value BpfObject::TakeMap(const Napi::CallbackInfo& info) {
  return ReadWholeMap(info.Env(), Map(info), true);
}

Napi::Value BpfObject::ReadSums(const Napi::CallbackInfo& info) {
  return SumWholeMap(info.Env(), Map(info), false);
}

Napi::Value BpfObject::TakeSums(const Napi::CallbackInfo& info) {
  return SumWholeMap(info.Env(), Map(info), true);
}

Napi::Value BpfObject::ReadWord(const Napi::CallbackInfo& info) {
  return ReadWordOfMap(info.Env(), Map(info), info[1].As<Napi::Number>().Uint32Value());
}

Napi::Value BpfObject::MapMemory(const Napi::CallbackInfo& info) {
  return MapArrayMemory(info.Env(), Map(info));
}

Napi::Value BpfObject::Lookup(const Napi::CallbackInfo& info) {
  return LookupKey(info.Env(), Map(info), info[1].As<Napi::Buffer<char>>());
}

Napi::Value BpfObject::LookupSums(const Napi::CallbackInfo& info) {
  return SumKey(info.Env(), Map(info), info[1].As<Napi::Buffer<char>>());
}

Napi::Value BpfObject::DeleteKeys(const Napi::CallbackInfo& info) {
  return DeleteMapKeys(info.Env(), Map(info), info[1].As<Napi::Buffer<char>>());
}

Napi::Value BpfObject::MemoryBytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), ObjectMemoryBytes(info.Env(), Opened(info.Env())));
}

void BpfObject::Close(const Napi::CallbackInfo&) {
  links_.clear();
  cpu_links_.clear();
  object_.reset();
}

bpf_object* BpfObject::Opened(Napi::Env env) const {
  if (!object_) throw SystemError(env, EBADF, "a BPF object that was closed");
  return object_.get();
}

bpf_map* BpfObject::Map(const Napi::CallbackInfo& info, size_t argument) const {
  std::string name = info[argument].As<Napi::String>();
  bpf_map* map = bpf_object__find_map_by_name(Opened(info.Env()), name.c_str());
  if (!map) throw SystemError(info.Env(), ENOENT, "map " + name);
  return map;
}

bpf_program* BpfObject::Program(const Napi::CallbackInfo& info) const {
  std::string name = info[0].As<Napi::String>();
  bpf_program* program = bpf_object__find_program_by_name(Opened(info.Env()), name.c_str());
  if (!program) throw SystemError(info.Env(), ENOENT, "program " + name);
  return program;
}

}  // namespace sculptor
