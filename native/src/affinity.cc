#include "affinity.h"

#include <sched.h>

#include <cerrno>
#include <vector>

#include "errors.h"

namespace sculptor {
namespace {

// The largest NR_CPUS that Linux can be built with.
constexpr int kMaxCpus = 8192;
constexpr size_t kMaskBytes = CPU_ALLOC_SIZE(kMaxCpus);
using Mask = std::vector<unsigned char>;

cpu_set_t* Set(Mask& mask) { return reinterpret_cast<cpu_set_t*>(mask.data()); }

}  // namespace

Napi::Value GetAffinity(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  pid_t tid = info[0].As<Napi::Number>().Int32Value();
  Mask mask(kMaskBytes);
  if (sched_getaffinity(tid, kMaskBytes, Set(mask)) != 0) {
    throw SystemError(env, errno, "sched_getaffinity of tid " + std::to_string(tid));
  }
  Napi::Array cpus = Napi::Array::New(env);
  uint32_t count = 0;
  for (int cpu = 0; cpu < kMaxCpus; cpu++) {
    if (CPU_ISSET_S(cpu, kMaskBytes, Set(mask))) cpus.Set(count++, cpu);
  }
  return cpus;
}

Napi::Value SetAffinity(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Int32Array tids = info[0].As<Napi::Int32Array>();
  Napi::Int32Array cpus = info[1].As<Napi::Int32Array>();
  Mask mask(kMaskBytes);
  for (size_t i = 0; i < cpus.ElementLength(); i++) {
    if (cpus[i] < 0 || cpus[i] >= kMaxCpus) {
      throw Napi::RangeError::New(env, "cpu " + std::to_string(cpus[i]) + ": wanted 0..8191");
    }
    CPU_SET_S(cpus[i], kMaskBytes, Set(mask));
  }
  Napi::Int32Array errors = Napi::Int32Array::New(env, tids.ElementLength());
  for (size_t i = 0; i < tids.ElementLength(); i++) {
    errors[i] = sched_setaffinity(tids[i], kMaskBytes, Set(mask)) == 0 ? 0 : errno;
  }
  return errors;
}

}  // namespace sculptor
