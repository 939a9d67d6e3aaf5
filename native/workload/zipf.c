// Threads of which few wake often and many seldom, and threads that begin and end.
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "workload.h"

static uint64_t periods_ns[MOST_WAKERS];
static uint64_t burn_ns;
static pthread_t wakers[MOST_WAKERS];
static atomic_int next_waker, resting_wakers;
static atomic_bool going;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;

static void sleep_until(uint64_t ns) {
  struct timespec at = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) continue;
}

static void await_go(void) {
  pthread_mutex_lock(&gate);
  atomic_fetch_add(&resting_wakers, 1);
  while (!atomic_load(&going)) pthread_cond_wait(&opened, &gate);
  atomic_fetch_sub(&resting_wakers, 1);
  pthread_mutex_unlock(&gate);
}

// Until then, or until they are to rest: the last of them wake once in minutes.
static void sleep_while_going(uint64_t ns) {
  struct timespec at = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
  while (atomic_load(&going) && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
    continue;
}

static void *wake(void *unused) {
  (void)unused;
  unsigned int seed = (unsigned int)atomic_fetch_add(&next_waker, 1);
  uint64_t period_ns = periods_ns[seed];
  wakers[seed] = pthread_self();
  for (;;) {
    await_go();
    // Not all at one time.
    uint64_t due = now_ns() + (uint64_t)((double)period_ns * rand_r(&seed) / RAND_MAX);
    for (; atomic_load(&going); due += period_ns) {
      sleep_while_going(due);
      if (!atomic_load(&going)) break;
      uint64_t end = now_ns() + burn_ns;
      while (now_ns() < end) continue;
    }
  }
  return NULL;
}

static void *rest(void *unused) {
  (void)unused;
  for (;;) sleep_until(UINT64_MAX / 2);
  return NULL;
}

static void set_rates(const struct crowd *crowd) {
  double sum = 0;
  for (int rank = 1; rank <= crowd->wakers * crowd->groups; rank++) sum += pow(rank, -1.5);
  for (int n = 0; n < crowd->wakers; n++) {
    double rate = crowd->rate * pow(crowd->rank + n * crowd->groups, -1.5) / sum;
    periods_ns[n] = (uint64_t)(1e9 / rate);
  }
  burn_ns = crowd->burn_ns;
}

static void interrupt(int signal) { (void)signal; }

// Again and again: one that was about to sleep sleeps on after the first.
static void let_rest(int count) {
  while (atomic_load(&resting_wakers) < count) {
    for (int i = 0; i < count; i++) pthread_kill(wakers[i], SIGUSR1);
    sleep_until(now_ns() + 10000000);
  }
}

static void say(const char *word) {
  printf("%s\n", word);
  fflush(stdout);
}

int run_crowd(const struct crowd *crowd) {
  char line[16];
  set_rates(crowd);
  sigaction(SIGUSR1, &(struct sigaction){.sa_handler = interrupt}, NULL);
  if (start_threads(crowd->wakers, wake) != 0) return 1;
  if (start_threads(crowd->count - crowd->wakers - 1, rest) != 0) return 1;
  while (atomic_load(&resting_wakers) < crowd->wakers) sched_yield();
  say("ready");
  while (fgets(line, sizeof line, stdin) != NULL) {
    pthread_mutex_lock(&gate);
    atomic_store(&going, strcmp(line, "go\n") == 0);
    pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&gate);
    if (!atomic_load(&going)) let_rest(crowd->wakers);
  }
  rest(NULL);
  return 0;
}

static uint64_t life_ns;

static void *live(void *unused) {
  (void)unused;
  sleep_until(now_ns() + life_ns);
  return NULL;
}

int run_churn(int count, int rate) {
  life_ns = (uint64_t)count * 1000000000u / (uint64_t)rate;
  say("ready");
  for (uint64_t due = now_ns();; due += 1000000000u / (uint64_t)rate) {
    pthread_t thread;
    sleep_until(due);
    int failed = pthread_create(&thread, NULL, live, NULL);
    if (failed != 0) {
      fprintf(stderr, "sculpt-workload: a thread of %d: %s\n", count, strerror(failed));
      return 1;
    }
    pthread_detach(thread);
  }
}
