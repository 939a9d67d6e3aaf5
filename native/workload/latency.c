// A periodic task: sleeps, measures how late it was woken, burns. Lateness is what run-queue
// contention does to it.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "workload.h"

// 262144 samples are more than four minutes at the default period; past that the oldest are
// dropped, and counted.
enum { capacity = 1 << 18, line_bytes = 256, name_bytes = 64 };

// Lateness in nanoseconds; 4.29 s is the most that fits.
static uint32_t ring[capacity];
static uint32_t sorted[capacity];
static uint64_t taken;

static void keep(uint64_t late_ns) {
  ring[taken % capacity] = late_ns > UINT32_MAX ? UINT32_MAX : (uint32_t)late_ns;
  taken++;
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

// The smallest sample that at least `ratio` of all samples do not exceed, in microseconds.
static double quantile_us(size_t n, double ratio) {
  if (n == 0) return 0;
  size_t rank = (size_t)(ratio * (double)n);
  return (double)sorted[rank < n ? rank : n - 1] / 1e3;
}

static void append_raw(FILE *raw, const char *name, uint64_t first, size_t n) {
  if (raw == NULL) return;
  for (size_t i = 0; i < n; i++)
    fprintf(raw, "%s\t%.3f\n", name, ring[(first + i) % capacity] / 1e3);
  if (fflush(raw) != 0) perror("sculpt-workload: --raw");
}

static void mark(const char *name, FILE *raw) {
  size_t n = taken < capacity ? (size_t)taken : capacity;
  uint64_t first = taken - n;
  for (size_t i = 0; i < n; i++) sorted[i] = ring[(first + i) % capacity];
  qsort(sorted, n, sizeof sorted[0], ascending);
  printf(
      "{\"phase\":\"%s\",\"n\":%zu,\"p50Us\":%.3f,\"p99Us\":%.3f,\"maxUs\":%.3f,\"dropped\":%llu}"
      "\n",
      name, n, quantile_us(n, 0.5), quantile_us(n, 0.99), n ? sorted[n - 1] / 1e3 : 0.0,
      (unsigned long long)first);
  fflush(stdout);
  append_raw(raw, name, first, n);
  taken = 0;
}

static void obey(char *line, FILE *raw) {
  char name[name_bytes];
  // The name goes into JSON as it is, so only harmless characters are taken.
  if (sscanf(line, "mark %63[A-Za-z0-9_.:-]", name) == 1)
    mark(name, raw);
  else
    fprintf(stderr,
            "sculpt-workload: wanted \"mark NAME\" (letters, digits, _ . : -), got \"%s\"\n", line);
}

// Reads what is there without waiting; false when standard input has ended.
static int read_commands(FILE *raw) {
  static char buffer[line_bytes];
  static size_t used;
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  if (poll(&input, 1, 0) <= 0) return 1;
  ssize_t got = read(STDIN_FILENO, buffer + used, sizeof buffer - 1 - used);
  if (got < 0) return errno == EINTR || errno == EAGAIN;
  if (got == 0) return 0;
  used += (size_t)got;
  buffer[used] = '\0';
  char *line = buffer;
  for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
    *end = '\0';
    obey(line, raw);
  }
  used -= (size_t)(line - buffer);
  memmove(buffer, line, used);
  if (used == sizeof buffer - 1) used = 0;  // A line that never ends: dropped.
  return 1;
}

int run_latency(uint64_t period_ns, uint64_t burn_ns, const char *raw_path) {
  FILE *raw = NULL;
  if (raw_path != NULL && (raw = fopen(raw_path, "a")) == NULL) {
    fprintf(stderr, "sculpt-workload: --raw %s: %s\n", raw_path, strerror(errno));
    return 2;
  }
  struct timespec period = {(time_t)(period_ns / 1000000000u), (long)(period_ns % 1000000000u)};
  for (int listening = 1;;) {
    if (listening) listening = read_commands(raw);
    uint64_t slept = now_ns();
    if (nanosleep(&period, NULL) != 0) continue;  // A signal (SIGCONT) ended it early: no sample.
    uint64_t woke = now_ns();
    keep(woke - slept > period_ns ? woke - slept - period_ns : 0);
    while (now_ns() - woke < burn_ns) continue;
  }
}
