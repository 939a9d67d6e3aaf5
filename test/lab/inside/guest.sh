#!/bin/bash
# What a guest of the lab does, named on its kernel command line (lab-run): the real agent, exporting over vsock and over the
# network, an instance, and a process that forges. Its console is the test's to read.
cd /checkout || exit 1
for module in vmw_vsock_virtio_transport virtio_net; do modprobe "$module" || echo "GUEST no $module"; done
device=$(ls -d /sys/class/net/e* | head -n 1)
ip address add 10.99.0.2/24 dev "${device##*/}" && ip link set "${device##*/}" up
echo 'GUEST begins'

# An instance of the guest's own, with a connection to the host on which it says a word twice a second. It hardly works: an emulated CPU
# that spins is one that nobody else has.
mkdir /sys/fs/cgroup/tenant
(
  echo 0 >/sys/fs/cgroup/tenant/cgroup.procs
  exec 3<>/dev/tcp/10.99.0.1/4319
  while sleep 0.5; do echo word >&3 && read -r _ <&3; done
) &
agent() { # agent NAME ENDPOINT: with a machine id of its own, by which the two can be told apart
  mkdir -p "/run/$1"
  tr -d - </proc/sys/kernel/random/uuid >"/run/$1/machine-id"
  printf 'agent: {endpoint: "%s", detailIntervalSeconds: 2, apiSocket: /run/%s/api.sock}\n' "$2" "$1" >"/run/$1.yaml"
  unshare --mount sh -c 'mount --bind "/run/$1/machine-id" /etc/machine-id && exec bin/sculpt agent --config "/run/$1.yaml"' \
    sh "$1" 2>&1 | sed "s/^/GUEST $1: /" &
}
for way in vsock://2:4317 http://10.99.0.1:4318; do
  echo "FORGED $way $(node test/lab/inside/forge.ts "$way" 2>&1 | tail -n 1)"
done
agent vsock vsock://2:4317
agent network http://10.99.0.1:4318
while :; do
  read -r up _ </proc/uptime
  echo "GUEST tick $up"
  sleep 1
done
