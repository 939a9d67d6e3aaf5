// Threads that cannot go on: for want of a lock, or of a child of vfork(2).
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "workload.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// One thread has the lock, and sleeps; all others wait for it.
static void *queue_up(void *unused) {
  (void)unused;
  for (;;) {
    pthread_mutex_lock(&lock);
    usleep(5000);
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}

int run_convoy(int threads) {
  if (start_threads(threads - 1, queue_up) != 0) return 1;
  queue_up(NULL);
  return 0;
}

// The parent waits in state D, without I/O, until the child has ended; the child sleeps for the
// period, and then another does; of no period for ever.
int run_vfork(uint64_t period_ns) {
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    pid_t child = vfork();
    if (child < 0) return 1;
    if (child > 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (period_ns == 0) pause();
    usleep(period_ns / 1000);
    _exit(0);
  }
}
