// Touches each page of a mapping once, and tells how many faults that took by its own account.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "workload.h"

static int fail(const char *what) {
  fprintf(stderr, "sculpt-workload: %s: %s\n", what, strerror(errno));
  return 1;
}

// Memory of this process comes from one node and no other.
static int bind_to(int node) {
  unsigned long mask[16] = {0};
  const unsigned long bits = 8 * sizeof mask[0];
  mask[(unsigned long)node / bits] = 1ul << ((unsigned long)node % bits);
  return (int)syscall(SYS_set_mempolicy, MPOL_BIND, mask, 8 * sizeof mask);
}

static char *map_anonymous(size_t bytes, bool huge) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB : 0);
  char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  // One fault for each page.
  if (memory != MAP_FAILED) madvise(memory, bytes, MADV_NOHUGEPAGE);
  return memory;
}

// Maps a file whose pages are not in memory, and of which nothing is read ahead.
static char *map_cold(const char *path, size_t bytes) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return MAP_FAILED;
  fdatasync(fd);
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  char *memory = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (memory != MAP_FAILED) madvise(memory, bytes, MADV_RANDOM);
  return memory;
}

int run_walk(size_t bytes, int node, bool huge, bool locked, const char *path) {
  if (node >= 0 && bind_to(node) != 0) return fail("--node");
  volatile char *memory = path ? map_cold(path, bytes) : map_anonymous(bytes, huge);
  if (memory == MAP_FAILED) return fail(path ? path : "mmap");
  // From the first touch on, and not at once: each page is to be a fault of its own.
  if (locked && mlock2((const void *)memory, bytes, MLOCK_ONFAULT) != 0) return fail("--locked");
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  uint64_t began = now_ns();
  for (size_t at = 0; at < bytes; at += page) {
    if (path)
      (void)memory[at];
    else
      memory[at] = 1;
  }
  uint64_t took = now_ns() - began;
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("{\"pages\":%zu,\"minorFaults\":%ld,\"majorFaults\":%ld,\"walkNs\":%llu}\n", bytes / page,
         usage.ru_minflt, usage.ru_majflt, (unsigned long long)took);
  fflush(stdout);
  for (;;) pause();
}
