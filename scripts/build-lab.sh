#!/bin/sh
# Brings what the lab needs and prints its folder: QEMU and busybox on this machine; a newer QEMU, Debian's kernels and the
# packages of a virtualization host (libvirt, machined, the guest agent) and workloads unpacked into the user's cache, not installed.
# Exit code 3: cannot be had here, and why. `build-lab.sh --kernels` lists what can be chosen.
set -eu
cd "$(dirname "$0")/.."

# name → package and suite
kernels='6.1:bookworm 6.12:bookworm-backports'
if [ "${1:-}" = --kernels ]; then
  for kernel in $kernels; do echo "${kernel%%:*}"; done
  exit
fi
kernel=${1:-6.1}
suite=
for one in $kernels; do
  if [ "${one%%:*}" = "$kernel" ]; then suite=${one#*:}; fi
done
[ -n "$suite" ] || { echo "build-lab: no kernel $kernel: wanted one of $(sh "$0" --kernels | tr '\n' ' ')" >&2; exit 1; }

lack() { echo "build-lab: $1" >&2; exit 3; }
command -v apt-get >/dev/null || lack 'no apt-get: the lab is built from Debian packages'
[ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = bookworm ] || lack 'this is not Debian 12 (bookworm), whose packages the lab is built from'

tools='qemu-system-x86:/usr/bin/qemu-system-x86_64 busybox-static:/usr/bin/busybox cpio:/usr/bin/cpio kmod:/usr/sbin/modprobe'
missing=
for pair in $tools; do
  [ -e "${pair#*:}" ] || missing="$missing ${pair%%:*}"
done
if [ -n "$missing" ]; then
  [ "$(id -u)" = 0 ] || lack "missing system packages:$missing (as root: apt-get install -y --no-install-recommends$missing)"
  echo "build-lab: installing$missing" >&2
  # shellcheck disable=SC2086 # a list of names
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing; } >&2
fi

folder=${XDG_CACHE_HOME:-$HOME/.cache}/sculptor/lab
mkdir -p "$folder/apt/state/lists/partial" "$folder/apt/cache/archives/partial"
exec 9>"$folder/lock"
flock 9

# An apt of its own: it knows what this machine has installed, and changes nothing of it.
sources() {
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
  [ -n "$mirror" ] || lack 'apt has no source for bookworm'
  for name in bookworm bookworm-updates bookworm-backports; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $name main"
  done >"$folder/apt/sources.list"
}
own_apt() {
  command=$1
  shift
  "$command" -q -o "Dir::State=$folder/apt/state" -o "Dir::Cache=$folder/apt/cache" \
    -o "Dir::Etc::sourcelist=$folder/apt/sources.list" -o Dir::Etc::sourceparts=- \
    -o Dir::State::status=/var/lib/dpkg/status -o APT::Sandbox::User=root "$@"
}
fresh=
update() {
  [ -z "$fresh" ] || return 0
  sources
  own_apt apt-get update >"$folder/apt.log" 2>&1 || { cat "$folder/apt.log" >&2; lack 'apt-get update failed'; }
  fresh=yes
}
# Unpacks the archives of a folder into another as a layer over this machine's root: /lib and its kind are links there,
# and a layer with folders in their place would hide them.
unpack() {
  mkdir -p "$2/usr/lib" "$2/usr/bin" "$2/usr/sbin" "$2/usr/lib64"
  for name in lib bin sbin lib64; do ln -s "usr/$name" "$2/$name"; done
  for archive in "$1"/*.deb; do dpkg-deb --fsys-tarfile "$archive" | tar -x -C "$2" --keep-directory-symlink; done
}

# Downloads packages of bookworm with what this machine lacks of what they depend on, and unpacks them into one layer.
whole_layer() {
  into=$1
  shift
  update
  archives=$folder/apt/$into
  mkdir -p "$archives/partial"
  own_apt apt-get install -y --download-only --no-install-recommends -o "Dir::Cache::archives=$archives" "$@" \
    >"$folder/apt.log" 2>&1 || { cat "$folder/apt.log" >&2; lack "$* cannot be had"; }
  rm -rf "$folder/$into.new"
  unpack "$archives" "$folder/$into.new"
  rm -rf "$archives"
  mv "$folder/$into.new" "$folder/$into"
}

if [ ! -e "$folder/packages" ]; then
  echo 'build-lab: packages of a virtualization host (about 30 MB)' >&2
  whole_layer packages systemd systemd-sysv dbus systemd-container libvirt-daemon-system libvirt-clients qemu-guest-agent
fi

# Not below the lab's root as the others are: they run from here, with their own libraries.
if [ ! -e "$folder/workloads" ]; then
  echo 'build-lab: workloads (stress-ng, fio; about 25 MB)' >&2
  whole_layer workloads stress-ng fio time
fi

# Downloads packages as a suite has them, without what they depend on, and unpacks them into one layer.
layer() {
  into=$1
  from=$2
  shift 2
  archives=$folder/apt/$into
  rm -rf "$archives"
  mkdir -p "$archives"
  (cd "$archives" && own_apt apt-get download -t "$from" "$@") >"$folder/apt.log" 2>&1 ||
    { cat "$folder/apt.log" >&2; lack "$* cannot be had"; }
  rm -rf "$folder/$into.new"
  unpack "$archives" "$folder/$into.new"
  rm -rf "$archives"
}

# The emulator of backports, which runs with the libraries of this machine's: TCG before 8.1 now and then ran on one CPU what
# another was rewriting, of which kernels and V8 died.
if [ ! -e "$folder/qemu" ]; then
  echo 'build-lab: QEMU of backports (13 MB)' >&2
  update
  layer qemu bookworm-backports qemu-system-x86 qemu-system-common qemu-system-data seabios
  mv "$folder/qemu.new" "$folder/qemu"
fi

if [ ! -e "$folder/kernel-$kernel" ]; then
  echo "build-lab: Debian's kernel $kernel (about 70 to 100 MB)" >&2
  update
  package=$(own_apt apt-cache depends -t "$suite" linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  [ -n "$package" ] || lack "no package of kernel $kernel in $suite"
  layer "kernel-$kernel" "$suite" "$package"
  for version in "$folder/kernel-$kernel.new/usr/lib/modules"/*; do
    depmod -b "$folder/kernel-$kernel.new" "${version##*/}"
  done
  mv "$folder/kernel-$kernel.new" "$folder/kernel-$kernel"
fi

# What the machine starts from: busybox, the modules that reach the shared folders, and our first process.
modules='virtio_pci 9pnet_virtio 9p overlay virtio_console'
version=$(ls "$folder/kernel-$kernel/usr/lib/modules")
hash=$({ cat test/lab/machine/init; echo "$modules $version"; } | sha256sum | cut -c1-16)
if [ ! -e "$folder/kernel-$kernel/init-$hash.cpio" ]; then
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/modules"
  cp /usr/bin/busybox "$root/bin/"
  for applet in sh mount insmod mkdir sed switch_root; do ln -s busybox "$root/bin/$applet"; done
  for module in $modules; do
    modprobe -d "$folder/kernel-$kernel" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
  done | awk '!seen[$0]++' >"$root/files"
  while read -r file; do
    name=${file##*/}
    case $name in
      *.xz) xz -dc "$file" >"$root/modules/${name%.xz}" ;;
      *) cp "$file" "$root/modules/$name" ;;
    esac
    echo "${name%.xz}" >>"$root/modules/order"
  done <"$root/files"
  cp test/lab/machine/init "$root/init"
  chmod 755 "$root/init"
  rm -f "$root/files" "$folder/kernel-$kernel"/init-*.cpio
  (cd "$root" && find . | cpio -o -H newc --quiet) >"$folder/kernel-$kernel/init-$hash.cpio"
fi
echo "$folder"
