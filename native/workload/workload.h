// The load generator of the demo, the benchmarks and the kernel tests. Licence: Apache-2.0.
#ifndef SCULPT_WORKLOAD_H
#define SCULPT_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Nanoseconds of CLOCK_MONOTONIC.
uint64_t now_ns(void);

// Ends the program with the message, the exit code 2 and the usage.
void usage_error(const char *message) __attribute__((noreturn));

// Starts so many threads with small stacks; 0, or 1 and a message.
int start_threads(int count, void *(*run)(void *));

#define MOST_WAKERS 256

// One group of a crowd whose threads wake at Zipf's rates: `rate` is that of all groups together,
// in 1/s.
struct crowd {
  int count;
  int wakers;
  int rank;
  int groups;
  double rate;
  uint64_t burn_ns;
};

// Each mode but merge runs until it is killed; what it returns is the exit code.
int run_latency(uint64_t period_ns, uint64_t burn_ns, const char *raw_path);
int run_spin(int threads);
int run_threads(int count);
int run_crowd(const struct crowd *crowd);
int run_churn(int count, int rate);
int run_convoy(int threads);
int run_vfork(uint64_t period_ns);
int run_hop(uint64_t period_ns);
int run_walk(size_t bytes, int node, bool huge, bool locked, const char *path);
int run_map(int count, int threads);
int run_merge(const char *path, int count);
int run_wire(const char *from, const char *to, uint64_t delay_ns, unsigned long drop_every);
int run_vcpu(void);
int run_count_runs(void);

#endif
