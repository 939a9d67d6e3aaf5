// While it runs, the kernel counts how often and how long BPF programs run.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "workload.h"

// Without the sysctl, which would stay on if this one were killed.
int run_count_runs(void) {
  union bpf_attr attributes = {.enable_stats.type = BPF_STATS_RUN_TIME};
  if (syscall(SYS_bpf, BPF_ENABLE_STATS, &attributes, sizeof attributes) < 0) {
    fprintf(stderr, "sculpt-workload: count-runs: %s\n", strerror(errno));
    return 1;
  }
  puts("counting");
  fflush(stdout);
  for (;;) pause();
}
