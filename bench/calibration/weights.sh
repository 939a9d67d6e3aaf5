#!/usr/bin/env bash
# What a weight must be: a task that burns BURN µs of every ms in a cgroup of its own beside N batch cgroups of one spinner
# each, all of weight 1024 (cgroup v1, as root). Prints p99 lateness and the cores that batch got, for each setting: a factor
# of the critical cgroup's weight, `idle` (cpu.idle on batch) or `confined` (batch on one CPU). src/pae/planner/sizing.ts
# and candidates.ts stand on it.
# usage: weights.sh N BURN_US "SETTING..." [seconds]
set -euo pipefail
n=$1 burn=$2 settings=$3 seconds=${4:-3}
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

cpus=$(cat /sys/devices/system/cpu/online) last=${cpus##*[-,]}
batch() { # batch IDLE CPUS: for every batch cgroup
  for i in $(seq "$n"); do
    echo "$1" >"$cpu/$name-$i/cpu.idle"
    for pid in $(cat "$cpu/$name-$i/cgroup.procs"); do taskset -pc "$2" "$pid" >/dev/null; done
  done
}
apply() { # apply SETTING
  case $1 in
    idle) echo 1024 >"$cpu/$name-critical/cpu.shares" && batch 1 "$cpus" ;;
    confined) echo 1024 >"$cpu/$name-critical/cpu.shares" && batch 0 "$last" ;;
    *) echo $((1024 * $1)) >"$cpu/$name-critical/cpu.shares" && batch 0 "$cpus" ;;
  esac
}

for i in $(seq "$n"); do start "$name-$i" "$here/build/sculpt-workload" spin; done
pipe=$(mktemp -u) && mkfifo "$pipe"
exec 3<>"$pipe" && rm "$pipe"
start "$name-critical" "$here/build/sculpt-workload" latency --period-us 1000 --burn-us "$burn" <&3
sleep 1
for setting in $settings; do
  apply "$setting"
  sleep 0.5
  echo 'mark skip' >&3
  before=$(used)
  sleep "$seconds"
  after=$(used)
  echo "mark N$n-burn$burn-$setting-batch_cores-$(awk -v a="$before" -v b="$after" -v s="$seconds" 'BEGIN {printf "%.2f", (b - a) / s / 1e9}')" >&3
  sleep 0.1
done
