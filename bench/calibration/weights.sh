#!/usr/bin/env bash
# What a weight must be: a task that burns BURN µs of every ms in a cgroup of its own beside N batch cgroups of one spinner
# each, all of weight 1024 (cgroup v1, as root). Prints p99 lateness and the cores that batch got, for each factor of the
# critical cgroup's weight. src/pae/planner/sizing.ts stands on it.
# usage: weights.sh N BURN_US "FACTOR..." [seconds]
set -euo pipefail
n=$1 burn=$2 factors=$3 seconds=${4:-3}
here=$(cd "$(dirname "$0")/../.." && pwd)
cpu=/sys/fs/cgroup/cpu acct=/sys/fs/cgroup/cpuacct name=sculptor-calibration-$$
pids=()
start() { # start CGROUP command...: a process in it, also for accounting
  mkdir -p "$cpu/$1" "$acct/$1"
  (echo $BASHPID >"$cpu/$1/cgroup.procs" && echo $BASHPID >"$acct/$1/cgroup.procs" && exec "${@:2}") <&0 &
  pids+=($!)
}
finish() {
  exec 3>&-
  for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
  sleep 0.3
  for i in critical $(seq "$n"); do rmdir "$cpu/$name-$i" "$acct/$name-$i"; done
}
trap finish EXIT
used() { for i in $(seq "$n"); do cat "$acct/$name-$i/cpuacct.usage"; done | awk '{s += $1} END {printf "%.0f", s}'; }

for i in $(seq "$n"); do start "$name-$i" "$here/build/sculpt-workload" spin; done
pipe=$(mktemp -u) && mkfifo "$pipe"
exec 3<>"$pipe" && rm "$pipe"
start "$name-critical" "$here/build/sculpt-workload" latency --period-us 1000 --burn-us "$burn" <&3
sleep 1
for factor in $factors; do
  echo $((1024 * factor)) >"$cpu/$name-critical/cpu.shares"
  sleep 0.5
  echo 'mark skip' >&3
  before=$(used)
  sleep "$seconds"
  after=$(used)
  echo "mark N$n-burn$burn-x$factor-batch_cores-$(awk -v a="$before" -v b="$after" -v s="$seconds" 'BEGIN {printf "%.2f", (b - a) / s / 1e9}')" >&3
  sleep 0.1
done
