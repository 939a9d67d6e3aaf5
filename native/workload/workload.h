// The load generator of the demo, the benchmarks and the kernel tests. Licence: Apache-2.0.
#ifndef SCULPT_WORKLOAD_H
#define SCULPT_WORKLOAD_H

#include <stdint.h>

// Nanoseconds of CLOCK_MONOTONIC.
uint64_t now_ns(void);

// Ends the program with the message, the exit code 2 and the usage.
void usage_error(const char *message) __attribute__((noreturn));

// Each mode runs until it is killed; what it returns is the exit code.
int run_latency(uint64_t period_ns, uint64_t burn_ns, const char *raw_path);
int run_spin(int threads);
int run_threads(int count);

#endif
