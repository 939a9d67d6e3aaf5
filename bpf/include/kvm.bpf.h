/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The few structures of KVM that are read, and why a guest was left. Their types are in the BTF of KVM's modules. */
#ifndef SCULPTOR_KVM_BPF_H
#define SCULPTOR_KVM_BPF_H

#include "kernel.bpf.h"

/* linux/kvm.h: who says why. */
#define KVM_ISA_VMX 1
#define KVM_ISA_SVM 2

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kvm_vcpu {
	int vcpu_idx;
};

struct vmcb_control_area {
	__u32 exit_code;
};

struct vmcb {
	struct vmcb_control_area control;
};

/* Begins with its kvm_vcpu, as KVM itself asserts; so does vcpu_vmx. */
struct vcpu_svm {
	struct vmcb *vmcb;
};

union vmx_exit_reason {
	__u32 full;
};

struct vcpu_vmx {
	union vmx_exit_reason exit_reason;
};

/* From 6.16 on. */
struct vcpu_vt {
	union vmx_exit_reason exit_reason;
};

struct vcpu_vmx___vt {
	struct vcpu_vt vt;
};

#pragma clang attribute pop

#define UNKNOWN_EXIT (~0U)

/* The code of the CPU's manual: SVM's exit code, VMX's basic exit reason. */
static __always_inline __u32 exit_code(struct kvm_vcpu *vcpu, __u32 isa)
{
	if (isa == KVM_ISA_SVM && bpf_core_type_exists(struct vcpu_svm))
		return BPF_CORE_READ((struct vcpu_svm *)vcpu, vmcb, control.exit_code);
	if (isa == KVM_ISA_VMX && bpf_core_field_exists(struct vcpu_vmx, exit_reason))
		return BPF_CORE_READ((struct vcpu_vmx *)vcpu, exit_reason.full) & 0xffff;
	if (isa == KVM_ISA_VMX && bpf_core_field_exists(struct vcpu_vmx___vt, vt))
		return BPF_CORE_READ((struct vcpu_vmx___vt *)vcpu, vt.exit_reason.full) & 0xffff;
	return UNKNOWN_EXIT;
}

#endif
