// A process with many mappings, which come and go all the time.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "workload.h"

static size_t page;

static void *come_and_go(void *unused) {
  (void)unused;
  for (;;) {
    void *one = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (one != MAP_FAILED) munmap(one, page);
  }
  return NULL;
}

// Neighbours of other rights than one has are mappings of their own.
int run_map(int count, int threads) {
  page = (size_t)sysconf(_SC_PAGESIZE);
  char *memory = mmap(NULL, (size_t)count * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int failed = memory == MAP_FAILED;
  for (int i = 0; !failed && i < count; i += 2)
    failed = mprotect(memory + (size_t)i * page, page, PROT_READ | PROT_WRITE) != 0;
  if (failed) {
    fprintf(stderr, "sculpt-workload: map: %s\n", strerror(errno));
    return 1;
  }
  if (start_threads(threads, come_and_go) != 0) return 1;
  printf("{\"mappings\":%d}\n", count);
  fflush(stdout);
  for (;;) pause();
}
