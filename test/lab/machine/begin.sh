#!/bin/bash
# Second half of the lab's start, on the machine's own root: mounts, names, the guest agent; then it is process 1, or
# systemd is (`lab=systemd`). A guest in the lab starts the same way, and runs a script instead (`lab-run=`).
export PATH=/usr/local/bin:/checkout/node_modules/.bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux LANG=C.UTF-8

mkdir -p /dev/pts /dev/shm /run /tmp
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
ln -sfn /proc/self/fd /dev/fd
echo lab >/etc/hostname
hostname lab
: >/etc/fstab
rm -f /etc/machine-id
tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
# The packages of the layer were unpacked, not installed: nobody made their users.
for user in libvirt-qemu:64055 systemd-network:998 systemd-resolve:997 tss:996; do
  grep -q "^${user%:*}:" /etc/passwd || echo "${user%:*}:x:${user#*:}:${user#*:}::/:/usr/sbin/nologin" >>/etc/passwd
  grep -q "^${user%:*}:" /etc/group || echo "${user%:*}:x:${user#*:}:" >>/etc/group
done
for group in kvm:108 libvirt:995; do
  grep -q "^${group%:*}:" /etc/group || echo "${group%:*}:x:${group#*:}:" >>/etc/group
done
ip link set lo up
# What strips types is WebAssembly, and V8 has died here while it compiled that a second time, for speed, beside its running.
printf '#!/bin/sh\nexec /checkout/node_modules/.bin/node --no-wasm-dynamic-tiering "$@"\n' >/usr/local/bin/node
chmod 755 /usr/local/bin/node

# A guest of the lab: it runs what it was told, and its console is all that is seen of it.
run=$(sed -n 's/.*lab-run=\([^ ]*\).*/\1/p' /proc/cmdline)
if [ -n "$run" ]; then
  /bin/bash "$run"
  echo o >/proc/sysrq-trigger
  sleep 60
fi

port=
for name in /sys/class/virtio-ports/*/name; do
  if [ "$(cat "$name")" = org.qemu.guest_agent.0 ]; then port=${name%/name}; fi
done
if grep -q lab=systemd /proc/cmdline; then
  . /checkout/test/lab/machine/systemd.sh "/dev/${port##*/}"
fi
# It answers while the machine is busy: it is how the tests see anything at all.
nice -n -15 qemu-ga --method virtio-serial --path "/dev/${port##*/}" --statedir /run &
read -r up _ </proc/uptime
echo "lab: ready after $up s"
if grep -q lab-shell /proc/cmdline; then
  cd /checkout || cd /
  setsid -c bash -i </dev/hvc0 >/dev/hvc0 2>&1
  echo o >/proc/sysrq-trigger
fi
while :; do sleep 3600 & wait; done
