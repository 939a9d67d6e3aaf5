// Threads that burn, and threads that sleep.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "workload.h"

static void *burn(void *unused) {
  (void)unused;
  for (volatile unsigned long x = 0;; x++) continue;
  return NULL;
}

static void *rest(void *unused) {
  (void)unused;
  for (;;) pause();
  return NULL;
}

int start_threads(int count, void *(*run)(void *)) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 * 1024);
  for (int i = 0; i < count; i++) {
    pthread_t thread;
    int failed = pthread_create(&thread, &attributes, run, NULL);
    if (failed != 0) {
      fprintf(stderr, "sculpt-workload: thread %d of %d: %s\n", i + 1, count, strerror(failed));
      return 1;
    }
  }
  return 0;
}

int run_spin(int threads) {
  if (start_threads(threads - 1, burn) != 0) return 1;
  burn(NULL);
  return 0;
}

int run_threads(int count) {
  if (start_threads(count - 1, rest) != 0) return 1;
  printf("ready\n");
  fflush(stdout);
  rest(NULL);
  return 0;
}
