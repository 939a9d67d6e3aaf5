#include "software_event.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace sculptor {

Fd OpenSoftwareEvent(uint32_t event, int cpu) {
  perf_event_attr attributes = {};
  attributes.size = sizeof(attributes);
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = event;
  // A period of one is never throttled: the kernel throttles the second overflow of one occurrence.
  attributes.sample_period = 1;
  constexpr int kAnyTask = -1, kNoGroup = -1;
  return Fd(static_cast<int>(
      syscall(SYS_perf_event_open, &attributes, kAnyTask, cpu, kNoGroup, PERF_FLAG_FD_CLOEXEC)));
}

std::set<int> CpuSet(const Napi::Int32Array& cpus) {
  return std::set<int>(cpus.Data(), cpus.Data() + cpus.ElementLength());
}

}  // namespace sculptor
