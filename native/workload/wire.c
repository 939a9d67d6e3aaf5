// A wire between two network namespaces that is late, and loses packets on purpose: for kernels
// without netem.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "workload.h"

#define PACKETS 4096
#define LONGEST 2048
// Acknowledgements are shorter, and never lost.
#define DATA_BYTES 500

struct packet {
  uint64_t due_ns;
  ssize_t length;
  char bytes[LONGEST];
};

// What is on its way in one direction, in the order in which it was sent.
struct way {
  int from, to;
  unsigned long drop_every, data_seen, first, last;
  struct packet packets[PACKETS];
};

static int fail(const char *what, const char *name) {
  fprintf(stderr, "sculpt-workload: %s %s: %s\n", what, name, strerror(errno));
  return 1;
}

// A device called "wire" in a namespace that `ip netns` made; its packets are read and written
// here. -1: errno says why.
static int open_end(const char *namespace) {
  char path[256];
  struct ifreq request = {.ifr_name = "wire", .ifr_flags = IFF_TUN | IFF_NO_PI};
  snprintf(path, sizeof path, "/run/netns/%s", namespace);
  int there = open(path, O_RDONLY | O_CLOEXEC);
  if (there < 0 || setns(there, CLONE_NEWNET) != 0) return -1;
  close(there);
  int end = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (end < 0 || ioctl(end, TUNSETIFF, &request) != 0) return -1;
  return end;
}

static void take(struct way *way, uint64_t delay_ns) {
  while (way->last - way->first < PACKETS) {
    struct packet *packet = &way->packets[way->last % PACKETS];
    packet->length = read(way->from, packet->bytes, LONGEST);
    if (packet->length <= 0) return;
    if (way->drop_every > 0 && packet->length > DATA_BYTES &&
        ++way->data_seen % way->drop_every == 0)
      continue;
    packet->due_ns = now_ns() + delay_ns;
    way->last++;
  }
}

// Hands out what is due; answers when the next is, 0: nothing is on its way.
static uint64_t deliver(struct way *way) {
  for (; way->first < way->last; way->first++) {
    struct packet *packet = &way->packets[way->first % PACKETS];
    if (packet->due_ns > now_ns()) return packet->due_ns;
    // What the other end does not take is lost, as on a wire.
    if (write(way->to, packet->bytes, (size_t)packet->length) < 0) continue;
  }
  return 0;
}

int run_wire(const char *from, const char *to, uint64_t delay_ns, unsigned long drop_every) {
  static struct way there, back;
  int left = open_end(from);
  if (left < 0) return fail("no end in the network namespace", from);
  int right = open_end(to);
  if (right < 0) return fail("no end in the network namespace", to);
  there.from = back.to = left;
  there.to = back.from = right;
  there.drop_every = drop_every;
  for (;;) {
    uint64_t next = deliver(&there), next_back = deliver(&back);
    if (next == 0 || (next_back != 0 && next_back < next)) next = next_back;
    uint64_t now = now_ns();
    uint64_t wait = next == 0 ? 1000000000u : next > now ? next - now : 0;
    struct timespec timeout = {(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
    struct pollfd ends[] = {{left, POLLIN, 0}, {right, POLLIN, 0}};
    if (ppoll(ends, 2, &timeout, NULL) < 0 && errno != EINTR) return fail("poll", "");
    take(&there, delay_ns);
    take(&back, delay_ns);
  }
}
