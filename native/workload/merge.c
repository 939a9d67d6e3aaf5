// Writes that reach an I/O scheduler as two requests, of which the second can only be merged into
// the first.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "workload.h"

#define BLOCK 4096u
// From three on the kernel holds back what is handed in at once until all of it is there.
#define AT_ONCE 3

static int fail(const char *what) {
  fprintf(stderr, "sculpt-workload: merge: %s: %s\n", what, strerror(errno));
  return 1;
}

// The third block joins the second, in front of it; only then does the first end where that begins.
static int write_three(aio_context_t context, int fd, char *block, uint64_t at) {
  static const uint64_t order[AT_ONCE] = {0, 2, 1};
  struct iocb operations[AT_ONCE] = {0}, *list[AT_ONCE];
  struct io_event events[AT_ONCE];
  for (int i = 0; i < AT_ONCE; i++) {
    operations[i].aio_lio_opcode = IOCB_CMD_PWRITE;
    operations[i].aio_fildes = (uint32_t)fd;
    operations[i].aio_buf = (uint64_t)(uintptr_t)block;
    operations[i].aio_nbytes = BLOCK;
    operations[i].aio_offset = (int64_t)(at + order[i] * BLOCK);
    list[i] = &operations[i];
  }
  if (syscall(SYS_io_submit, context, AT_ONCE, list) != AT_ONCE) return fail("io_submit");
  if (syscall(SYS_io_getevents, context, AT_ONCE, AT_ONCE, events, NULL) != AT_ONCE)
    return fail("io_getevents");
  for (int i = 0; i < AT_ONCE; i++)
    if (events[i].res != BLOCK) {
      errno = (int)-events[i].res;
      return fail("write");
    }
  return 0;
}

int run_merge(const char *path, int count) {
  aio_context_t context = 0;
  char *block = aligned_alloc(BLOCK, BLOCK);
  int fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
  if (block == NULL || fd < 0) return fail(path);
  memset(block, 1, BLOCK);
  if (syscall(SYS_io_setup, AT_ONCE, &context) != 0) return fail("io_setup");
  for (int i = 0; i < count; i++) {
    int failed = write_three(context, fd, block, (uint64_t)i * AT_ONCE * BLOCK);
    if (failed) return failed;
  }
  return 0;
}
