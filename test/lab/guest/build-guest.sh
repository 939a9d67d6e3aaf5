#!/bin/sh
# Makes the lab's small guest for one of build-lab.sh's kernels: `build-guest.sh KERNEL_FOLDER` prints a folder beside the
# kernel with `vmlinuz`, `vmlinux` and `initramfs` (busybox, modules of virtio devices, the workload). Made once for its sources.
set -eu
cd "$(dirname "$0")"
kernel=$1
modules='virtio_pci virtio_net virtio_blk virtio_scsi sd_mod virtio_console vmw_vsock_virtio_transport'
version=$(ls "$kernel/usr/lib/modules")
hash=$({ cat init workload.c build-guest.sh; echo "$version"; } | sha256sum | cut -c1-16)
folder=$kernel/guest-$hash

# `unpack VMLINUZ VMLINUX`: what an emulated CPU takes three seconds for at each start (Documentation/arch/x86/boot.rst).
unpack() {
  field() { od -An -t "u$2" -j "$1" -N "$2" "$3" | tr -d ' '; }
  from=$((($(field 0x1f1 1 "$1") + 1) * 512 + $(field 0x248 4 "$1") + 1))
  # Behind the stream stands its size, which zstd calls another one.
  for how in 'xz -dc --single-stream' 'zstd -dc'; do
    tail -c "+$from" "$1" | head -c "$(field 0x24c 4 "$1")" | $how >"$2" 2>/dev/null || true
    [ "$(head -c 4 "$2" | tail -c 3)" != ELF ] || return 0
  done
  # Neither is at hand: it is then unpacked by whom it is started.
  ln -f "$1" "$2"
}

if [ ! -e "$folder" ]; then
  exec 9>"$kernel/guest.lock"
  flock 9
fi
if [ ! -e "$folder" ]; then
  work=$(mktemp -d "$kernel/guest.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  root=$work/root
  mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/lib/modules/$version"
  cp /usr/bin/busybox "$root/bin/"
  for applet in sh mount modprobe tr poweroff; do ln -s busybox "$root/bin/$applet"; done
  gcc -O2 -static -Wall -Wextra -Werror -o "$root/bin/guest-workload" workload.c
  strip "$root/bin/guest-workload"
  for module in $modules; do
    modprobe -d "$kernel" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
  done | sort -u | while read -r file; do cp "$file" "$root/lib/modules/$version/"; done
  # Lists of what is built in would only be asked for what no guest loads.
  for list in order builtin builtin.modinfo; do : >"$root/lib/modules/$version/modules.$list"; done
  depmod -b "$root" "$version"
  cp init "$root/init"
  chmod 755 "$root/init"
  (cd "$root" && find . | cpio -o -H newc --quiet) >"$work/initramfs"
  rm -rf "$root"
  ln "$kernel/boot/vmlinuz-$version" "$work/vmlinuz"
  unpack "$work/vmlinuz" "$work/vmlinux"
  chmod 755 "$work"
  # What other sources made goes after a day: another checkout may be using it.
  find "$kernel" -maxdepth 1 -name 'guest-*' -mtime +0 -exec rm -rf {} +
  mv "$work" "$folder"
fi
echo "$folder"
