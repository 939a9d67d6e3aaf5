#!/bin/sh
# Becomes the QEMU of a small guest, its console on standard output:
#   run-guest.sh FOLDER ACCELERATOR NAME UUID QMP_SOCKET WORKLOAD [QEMU_ARGUMENT…]     UUID may be empty
# FOLDER is what build-guest.sh printed, WORKLOAD what workload.c describes: idle, busy, ticking,MS, dirtying,MB,PAGES, steal,MS, echo,
# writing,COUNT,KB, reading,COUNT,KB, discarding,COUNT,KB, cpuid,COUNT, joined by `+`. It has no IPv6, whose frames nobody asked for. In the environment: CPUS (2), MEMORY in MB (192), MODULES that the guest loads (by commas), QEMU (another binary).
set -eu
folder=$1 accelerator=$2 name=$3 uuid=$4 qmp=$5 workload=$6
shift 6
case $accelerator in
kvm) cpu=host kernel=vmlinuz ;;
*) cpu=max kernel=vmlinux ;;
esac
exec "${QEMU:-qemu-system-x86_64}" -name "guest=$name,debug-threads=on" ${uuid:+-uuid "$uuid"} -nodefaults -no-user-config \
  -no-reboot -display none -machine pc -accel "$accelerator" -cpu "$cpu" -smp "${CPUS:-2}" -m "${MEMORY:-192}" \
  -kernel "$folder/$kernel" -initrd "$folder/initramfs" \
  -append "console=ttyS0 panic=-1 mitigations=off tsc=reliable audit=0 quiet loglevel=4 ipv6.disable=1 workload=$workload modules=${MODULES:-}" \
  -serial stdio -qmp "unix:$qmp,server=on,wait=off" "$@"
