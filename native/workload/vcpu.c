// A machine of one vCPU that does nothing but write to an I/O port: each time KVM comes back to us.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "workload.h"

#ifdef __x86_64__

#define MEMORY_BYTES 4096u
#define BEGIN 0x1000u

static int fail(const char *what) {
  fprintf(stderr, "sculpt-workload: vcpu: %s: %s\n", what, strerror(errno));
  return 1;
}

int run_vcpu(void) {
  // Of real mode: again: out 0x10, al; jmp again.
  static const unsigned char code[] = {0xe6, 0x10, 0xeb, 0xfc};
  int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) return fail("/dev/kvm");
  int vm = ioctl(kvm, KVM_CREATE_VM, 0);
  if (vm < 0) return fail("KVM_CREATE_VM");
  unsigned char *memory =
      mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail("mmap");
  memcpy(memory, code, sizeof code);
  struct kvm_userspace_memory_region region = {.guest_phys_addr = BEGIN,
                                               .memory_size = MEMORY_BYTES,
                                               .userspace_addr = (uint64_t)(uintptr_t)memory};
  if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0) return fail("KVM_SET_USER_MEMORY_REGION");
  int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  int bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (vcpu < 0 || bytes < 0) return fail("KVM_CREATE_VCPU");
  const struct kvm_run *run = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, vcpu, 0);
  if (run == MAP_FAILED) return fail("mmap of the vCPU");
  struct kvm_sregs special;
  struct kvm_regs registers = {.rip = BEGIN, .rflags = 2};
  if (ioctl(vcpu, KVM_GET_SREGS, &special) < 0) return fail("KVM_GET_SREGS");
  special.cs.base = special.cs.selector = 0;
  if (ioctl(vcpu, KVM_SET_SREGS, &special) < 0 || ioctl(vcpu, KVM_SET_REGS, &registers) < 0)
    return fail("KVM_SET_REGS");
  for (;;) {
    if (ioctl(vcpu, KVM_RUN, 0) < 0 && errno != EINTR) return fail("KVM_RUN");
    if (run->exit_reason != KVM_EXIT_IO && run->exit_reason != KVM_EXIT_INTR) {
      fprintf(stderr, "sculpt-workload: vcpu: KVM came back for the reason %u\n", run->exit_reason);
      return 1;
    }
  }
}

#else

int run_vcpu(void) {
  fprintf(stderr, "sculpt-workload: vcpu: its instructions are x86's\n");
  return 1;
}

#endif
