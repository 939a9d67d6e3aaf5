// A thread that always wants to run, and another that moves it from one CPU to the next: it is
// moved while it waits, or is made to wait for it.
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "workload.h"

static volatile pid_t moved;

static void *spin(void *unused) {
  (void)unused;
  moved = gettid();
  for (;;) continue;
  return NULL;
}

int run_hop(uint64_t period_ns) {
  cpu_set_t all, one;
  struct timespec period = {.tv_nsec = (long)period_ns};
  if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) < 2) {
    fprintf(stderr, "sculpt-workload: hop: wants two CPUs\n");
    return 1;
  }
  if (start_threads(1, spin) != 0) return 1;
  while (moved == 0) nanosleep(&period, NULL);
  for (int cpu = 0;; cpu = (cpu + 1) % CPU_SETSIZE) {
    if (!CPU_ISSET(cpu, &all)) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(moved, sizeof one, &one) != 0) {
      perror("sculpt-workload: hop");
      return 1;
    }
    nanosleep(&period, NULL);
  }
}
