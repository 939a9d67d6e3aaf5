// A task that moves itself from one CPU to another, runnable all the time: each move is a migration
// of a task that waits.
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "workload.h"

int run_hop(uint64_t period_ns) {
  cpu_set_t all, one;
  if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) < 2) {
    fprintf(stderr, "sculpt-workload: hop: wants two CPUs\n");
    return 1;
  }
  for (int cpu = 0;; cpu = (cpu + 1) % CPU_SETSIZE) {
    if (!CPU_ISSET(cpu, &all)) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) {
      perror("sculpt-workload: hop");
      return 1;
    }
    nanosleep(&(struct timespec){.tv_nsec = (long)period_ns}, NULL);
  }
}
