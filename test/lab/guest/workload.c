/* What a guest of the lab does: `guest-workload KIND[,ARGUMENT…][+KIND…]`. Prints READY when all of it has begun. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <cpuid.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, BATCHES_PER_SECOND = 100 };

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

static void sleep_until(double deadline) {
  struct timespec at = {.tv_sec = (time_t)deadline};
  at.tv_nsec = (long)((deadline - at.tv_sec) * 1e9);
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void begun(int ready) {
  if (write(ready, "r", 1) != 1) _exit(1);
  close(ready);
}

/* busy: spins for ever. */
static void busy(int ready) {
  begun(ready);
  for (;;) __asm__ volatile("");
}

/* ticking,MS: a line each so many ms, with its number and the guest's own clock. */
static void ticking(int ready, long period_ms) {
  double next = seconds();
  begun(ready);
  for (unsigned long tick = 0;; tick++) {
    printf("TICK %lu at %.3f\n", tick, seconds());
    next += period_ms / 1e3;
    sleep_until(next);
  }
}

static uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  return *state ^= *state << 17;
}

/* dirtying,MB,PAGES: writes so many pages a second of a buffer of random content, and says each second how many it has written. */
static void dirtying(int ready, size_t megabytes, long pages_per_second) {
  size_t bytes = megabytes << 20;
  uint64_t state = 88172645463325252u, written = 0;
  unsigned char *buffer = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (buffer == MAP_FAILED) _exit(1);
  for (size_t at = 0; at < bytes; at += 8) *(uint64_t *)(buffer + at) = next_random(&state);
  begun(ready);
  double next = seconds();
  for (unsigned long batch = 1;; batch++) {
    for (long i = 0; i < pages_per_second / BATCHES_PER_SECOND; i++) {
      size_t page = next_random(&state) % (bytes / PAGE_BYTES);
      *(uint64_t *)(buffer + page * PAGE_BYTES) = ++written;
    }
    if (batch % BATCHES_PER_SECOND == 0) printf("DIRTIED %lu pages at %.3f\n", written, seconds());
    next += 1.0 / BATCHES_PER_SECOND;
    sleep_until(next);
  }
}

/* steal,MS: what the hypervisor kept from each vCPU, in seconds since the boot, again and again. */
static void steal(int ready, long period_ms) {
  begun(ready);
  for (double next = seconds();; sleep_until(next += period_ms / 1e3)) {
    char line[1024];
    int cpu;
    unsigned long stolen;
    FILE *stat = fopen("/proc/stat", "r");
    if (!stat) _exit(1);
    printf("STEAL");
    while (fgets(line, sizeof(line), stat))
      /* Not the line of all of them, `cpu  …`: %d takes blanks as well. */
      if (line[3] != ' ' && sscanf(line, "cpu%d %*u %*u %*u %*u %*u %*u %*u %lu", &cpu, &stolen) == 2)
        printf(" %.2f", stolen / 100.0);
    printf("\n");
    fclose(stat);
  }
}

/* echo: sends each frame that comes in on eth0 back to where it came from. */
static void echo(int ready) {
  struct ifreq link = {.ifr_name = "eth0", .ifr_flags = IFF_UP};
  int frames = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
  if (frames < 0 || ioctl(frames, SIOCSIFFLAGS, &link) != 0) _exit(1);
  begun(ready);
  for (;;) {
    unsigned char frame[ETH_FRAME_LEN], sender[ETH_ALEN];
    struct sockaddr_ll from;
    socklen_t size = sizeof(from);
    ssize_t bytes = recvfrom(frames, frame, sizeof(frame), 0, (struct sockaddr *)&from, &size);
    if (bytes < ETH_HLEN || from.sll_pkttype == PACKET_OUTGOING) continue;
    memcpy(sender, frame + ETH_ALEN, ETH_ALEN);
    memcpy(frame + ETH_ALEN, frame, ETH_ALEN);
    memcpy(frame, sender, ETH_ALEN);
    if (sendto(frames, frame, (size_t)bytes, 0, (struct sockaddr *)&from, sizeof(from)) < 0) _exit(1);
  }
}

/* writing,COUNT,KB, reading,COUNT,KB: so many blocks of the disk, one after another past the page cache (and a flush); says how long they took. */
static void moving(int ready, bool writes, long blocks, size_t kilobytes) {
  int disk = open("/dev/vda", (writes ? O_WRONLY : O_RDONLY) | O_DIRECT);
  size_t bytes = kilobytes << 10;
  void *block = aligned_alloc(PAGE_BYTES, bytes);
  if (disk < 0 || !block) _exit(1);
  memset(block, 1, bytes);
  begun(ready);
  double began = seconds();
  for (long i = 0; i < blocks; i++) {
    off_t at = (off_t)(i * bytes);
    ssize_t moved = writes ? pwrite(disk, block, bytes, at) : pread(disk, block, bytes, at);
    if (moved != (ssize_t)bytes) _exit(1);
  }
  double took = seconds() - began;
  if (writes && fdatasync(disk) != 0) _exit(1);
  printf("%s %ld blocks in %.3f s\n", writes ? "WROTE" : "READ", blocks, took);
  pause();
}

/* discarding,COUNT,KB: so many blocks of a SCSI disk, one after another; says when it has. */
static void discarding(int ready, long blocks, size_t kilobytes) {
  uint64_t range[2] = {0, kilobytes << 10};
  int disk;
  begun(ready);
  /* The kernel looks for it in its own time. */
  while ((disk = open("/dev/sda", O_WRONLY)) < 0) sleep_until(seconds() + 0.01);
  for (long i = 0; i < blocks; i++) {
    range[0] = (uint64_t)i * range[1];
    if (ioctl(disk, BLKDISCARD, range) != 0) _exit(1);
  }
  printf("DISCARDED %ld blocks\n", blocks);
  pause();
}

/* cpuid,COUNT: leaves to the hypervisor so often for the same thing, one after another; says how long that took. */
static void asking(int ready, long count) {
  unsigned a, b, c, d;
  begun(ready);
  double began = seconds();
  for (long i = 0; i < count; i++) __cpuid(0, a, b, c, d);
  printf("CPUID %ld times in %.3f s\n", count, seconds() - began);
  pause();
}

static bool run(char *one, int ready) {
  const char *kind = strtok(one, ",");
  const char *first = strtok(NULL, ","), *second = strtok(NULL, ",");
  if (!kind) return false;
  if (!strcmp(kind, "busy")) busy(ready);
  if (!strcmp(kind, "echo")) echo(ready);
  if (!strcmp(kind, "ticking") && first) ticking(ready, atol(first));
  if (!strcmp(kind, "steal") && first) steal(ready, atol(first));
  if (!strcmp(kind, "cpuid") && first) asking(ready, atol(first));
  if (!strcmp(kind, "writing") && first && second) moving(ready, true, atol(first), atol(second));
  if (!strcmp(kind, "reading") && first && second) moving(ready, false, atol(first), atol(second));
  if (!strcmp(kind, "discarding") && first && second) discarding(ready, atol(first), atol(second));
  if (!strcmp(kind, "dirtying") && first && second) dirtying(ready, atol(first), atol(second));
  return false;
}

int main(int count, char **arguments) {
  char *rest = NULL;
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (count != 2) return 2;
  for (char *one = strtok_r(arguments[1], "+", &rest); one; one = strtok_r(NULL, "+", &rest)) {
    int ready[2];
    char byte;
    if (!strcmp(one, "idle")) continue;
    if (pipe(ready) != 0) return 1;
    if (fork() == 0) {
      close(ready[0]);
      run(one, ready[1]);
      _exit(2);
    }
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1) {
      printf("guest-workload: %s did not begin\n", one);
      return 2;
    }
    close(ready[0]);
  }
  printf("READY at %.3f\n", seconds());
  for (;;) pause();
}
