// Software events of the kernel (perf_event_open(2)) that BPF programs are attached to.
#ifndef SCULPTOR_SOFTWARE_EVENT_H_
#define SCULPTOR_SOFTWARE_EVENT_H_

#include <napi.h>

#include <cstdint>
#include <set>

#include "fd.h"

namespace sculptor {

// PERF_COUNT_SW_* `event` of one CPU, whoever runs there, each single one. Fails with fd < 0 and
// errno.
Fd OpenSoftwareEvent(uint32_t event, int cpu);

std::set<int> CpuSet(const Napi::Int32Array& cpus);

}  // namespace sculptor

#endif  // SCULPTOR_SOFTWARE_EVENT_H_
