// sculpt-workload MODE: synthetic instances, of which some measure themselves by their own clock.
#define _GNU_SOURCE
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "workload.h"

uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void usage_error(const char *message) {
  fprintf(
      stderr,
      "sculpt-workload: %s\n"
      "usage: sculpt-workload latency [--period-us 1000] [--burn-us 300] [--raw FILE]\n"
      "       sculpt-workload spin [--threads 1]\n"
      "       sculpt-workload threads [--count 1000]\n"
      "       sculpt-workload crowd [--count 1000] [--wakers 0] [--rank 1] [--groups 1] [--rate "
      "1000] "
      "[--burn-us 300]\n"
      "       sculpt-workload churn [--count 1000] [--rate 1000]\n"
      "       sculpt-workload convoy [--threads 4]\n"
      "       sculpt-workload vfork [--period-us N]\n"
      "       sculpt-workload hop [--period-us 1000]\n"
      "       sculpt-workload walk [--mb 64] [--node N] [--huge | --locked | --file FILE]\n"
      "       sculpt-workload map [--count 1000] [--threads 1]\n"
      "       sculpt-workload merge --file DEVICE [--count 1000]\n"
      "       sculpt-workload wire --from NETNS --to NETNS [--delay-us 1000] [--drop-every N]\n"
      "       sculpt-workload vcpu\n"
      "       sculpt-workload count-runs\n"
      "latency: sleeps a period, notes how late it woke, burns; a line \"mark NAME\" on "
      "standard input\n"
      "         answers one JSON line about the samples since the last mark and appends them "
      "to FILE\n"
      "crowd: one of so many groups; after a line \"go\" on standard input its wakers wake, all "
      "groups' "
      "together at\n"
      "       the rate, by Zipf with s = 1.5: a group's nth has the rank --rank + n * groups; "
      "until a "
      "line \"rest\"\n"
      "churn: so many threads, of which so many end, and others begin, each second\n"
      "vfork: waits for a child that sleeps, and so anew each period, or for ever\n"
      "hop: a thread that never sleeps is moved from one CPU to the next each period\n"
      "walk: touches each page of so much memory (of memory node N; of huge pages; locked; or "
      "of FILE, which is\n"
      "      dropped from the page cache before), answers one JSON line with its faults, and "
      "stays\n"
      "map: has so many mappings, and threads that map and unmap all the time; says when it has "
      "them\n"
      "merge: writes so many times 12 KB to DEVICE, past the page cache, in three operations that "
      "an I/O scheduler\n"
      "      makes one request of, and ends\n"
      "wire: carries packets between a device \"wire\" in each of two network namespaces, each "
      "packet late by the\n"
      "      delay, and loses every Nth large one that goes from the first to the second\n"
      "vcpu: a machine under KVM with one vCPU, which comes back for each of its writes to a port\n"
      "count-runs: has the kernel count the runs of BPF programs while it runs "
      "(BPF_ENABLE_STATS)\n",
      message);
  exit(2);
}

static long number(const char *name, const char *text, long least, long most) {
  char *end;
  long value = strtol(text, &end, 10);
  if (*text == '\0' || *end != '\0' || value < least || value > most) {
    char message[160];
    snprintf(message, sizeof message, "--%s: wanted %ld..%ld, got \"%.40s\"", name, least, most,
             text);
    usage_error(message);
  }
  return value;
}

// A staged instance never outlives who staged it, even when that one is killed with SIGKILL.
static void die_with_parent(void) {
  pid_t parent = getppid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) exit(0);
}

int main(int argc, char **argv) {
  static const struct option options[] = {{"period-us", required_argument, NULL, 'p'},
                                          {"burn-us", required_argument, NULL, 'b'},
                                          {"raw", required_argument, NULL, 'r'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"count", required_argument, NULL, 'c'},
                                          {"wakers", required_argument, NULL, 'w'},
                                          {"rank", required_argument, NULL, 'k'},
                                          {"groups", required_argument, NULL, 'g'},
                                          {"rate", required_argument, NULL, 's'},
                                          {"mb", required_argument, NULL, 'm'},
                                          {"node", required_argument, NULL, 'n'},
                                          {"file", required_argument, NULL, 'f'},
                                          {"from", required_argument, NULL, 'F'},
                                          {"to", required_argument, NULL, 'T'},
                                          {"delay-us", required_argument, NULL, 'd'},
                                          {"drop-every", required_argument, NULL, 'e'},
                                          {"huge", no_argument, NULL, 'h'},
                                          {"locked", no_argument, NULL, 'l'},
                                          {NULL, 0, NULL, 0}};
  long period_us = 0, burn_us = 300, threads = 1, count = 1000, mb = 64, node = -1;
  long wakers = 0, rank = 1, groups = 1, rate = 1000;
  long delay_us = 1000, drop_every = 0;
  const char *raw_path = NULL, *file = NULL, *from = NULL, *to = NULL;
  bool huge = false, locked = false;
  int option;
  while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
    switch (option) {
      case 'p':
        period_us = number("period-us", optarg, 50, 10000000);
        break;
      case 'b':
        burn_us = number("burn-us", optarg, 0, 10000000);
        break;
      case 'r':
        raw_path = optarg;
        break;
      case 't':
        threads = number("threads", optarg, 0, 1024);
        break;
      case 'c':
        count = number("count", optarg, 1, 65536);
        break;
      case 'w':
        wakers = number("wakers", optarg, 0, MOST_WAKERS);
        break;
      case 'k':
        rank = number("rank", optarg, 1, 65536);
        break;
      case 'g':
        groups = number("groups", optarg, 1, 65536);
        break;
      case 's':
        rate = number("rate", optarg, 1, 1000000);
        break;
      case 'm':
        mb = number("mb", optarg, 1, 1 << 20);
        break;
      case 'n':
        node = number("node", optarg, 0, 1023);
        break;
      case 'f':
        file = optarg;
        break;
      case 'F':
        from = optarg;
        break;
      case 'T':
        to = optarg;
        break;
      case 'd':
        delay_us = number("delay-us", optarg, 0, 1000000);
        break;
      case 'e':
        drop_every = number("drop-every", optarg, 0, 1000000);
        break;
      case 'h':
        huge = true;
        break;
      case 'l':
        locked = true;
        break;
      default:
        usage_error("unknown option");
    }
  }
  if (optind != argc - 1) usage_error("wanted one mode");
  die_with_parent();
  const char *mode = argv[optind];
  uint64_t period_ns = (uint64_t)period_us * 1000, usual_ns = period_us == 0 ? 1000000 : period_ns;
  if (threads == 0 && strcmp(mode, "map") != 0) usage_error("--threads: wanted 1..1024, got 0");
  if (strcmp(mode, "latency") == 0)
    return run_latency(usual_ns, (uint64_t)burn_us * 1000, raw_path);
  if (strcmp(mode, "spin") == 0) return run_spin((int)threads);
  if (strcmp(mode, "threads") == 0) return run_threads((int)count);
  if (strcmp(mode, "crowd") == 0)
    return run_crowd(&(struct crowd){.count = (int)count,
                                     .wakers = (int)wakers,
                                     .rank = (int)rank,
                                     .groups = (int)groups,
                                     .rate = (double)rate,
                                     .burn_ns = (uint64_t)burn_us * 1000});
  if (strcmp(mode, "churn") == 0) return run_churn((int)count, (int)rate);
  if (strcmp(mode, "convoy") == 0) return run_convoy((int)threads);
  if (strcmp(mode, "vfork") == 0) return run_vfork(period_ns);
  if (strcmp(mode, "hop") == 0) return run_hop(usual_ns);
  if (strcmp(mode, "walk") == 0) return run_walk((size_t)mb << 20, (int)node, huge, locked, file);
  if (strcmp(mode, "map") == 0) return run_map((int)count, (int)threads);
  if (strcmp(mode, "merge") == 0) {
    if (file == NULL) usage_error("merge: wanted --file");
    return run_merge(file, (int)count);
  }
  if (strcmp(mode, "wire") == 0) {
    if (from == NULL || to == NULL) usage_error("wire: wanted --from and --to");
    return run_wire(from, to, (uint64_t)delay_us * 1000, (unsigned long)drop_every);
  }
  if (strcmp(mode, "vcpu") == 0) return run_vcpu();
  if (strcmp(mode, "count-runs") == 0) return run_count_runs();
  usage_error(
      "wanted the mode latency, spin, threads, crowd, churn, convoy, vfork, hop, walk, map, merge, "
      "wire, vcpu or count-runs");
}
