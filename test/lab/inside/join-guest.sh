#!/bin/bash
# What the guest of join.ts does, named on its kernel command line (lab-run): the real agent, exporting over vsock, on vCPU 1, and two
# tasks that compete for vCPU 0 and never sleep. Its console is the test's to read.
cd /checkout || exit 1
taskset -cp 1 $$ >/dev/null
modprobe vmw_vsock_virtio_transport || echo 'GUEST no vsock'
printf 'agent: {endpoint: "vsock://2:4317", detailIntervalSeconds: 2, apiSocket: /run/api.sock}\n' >/run/agent.yaml
bin/sculpt agent --config /run/agent.yaml 2>&1 | sed 's/^/GUEST agent: /' &
for _ in 1 2; do taskset -c 0 build/sculpt-workload spin & done
echo 'GUEST begins'
wait
