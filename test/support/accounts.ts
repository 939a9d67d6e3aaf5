import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { MetricPoint } from '../../src/contract/telemetry.ts';
import type { CgroupBox } from './cgroup-box.ts';
import { schedstat } from './sched-scene.ts';

/** Seconds of an instance, and how often its tasks left a CPU, voluntary or not. */
export type Account = {
  readonly run: number;
  readonly wait: number;
  readonly voluntary: number;
  readonly involuntary: number;
};

/** The kernel's own accounts of tasks, added up. */
export function accountOf(children: readonly ChildProcess[]): Account {
  const sum = (of: (child: ChildProcess) => number) =>
    children.reduce((total, child) => total + of(child), 0);
  const switches = (type: string) => (child: ChildProcess) =>
    Number(
      new RegExp(`^${type}_ctxt_switches:\\s+(\\d+)`, 'm').exec(
        readFileSync(`/proc/${child.pid}/status`, 'utf8'),
      )?.[1],
    );
  return {
    run: sum(child => schedstat(child).runNs / 1e9),
    wait: sum(child => schedstat(child).waitNs / 1e9),
    voluntary: sum(switches('voluntary')),
    involuntary: sum(switches('nonvoluntary')),
  };
}

/** Seconds that a cgroup v2 has run by its `cpu.stat`. */
export function usageSeconds(box: CgroupBox): number {
  return Number(/usage_usec (\d+)/.exec(box.read('cpu.stat'))?.[1]) / 1e6;
}

export function lessAccount(a: Account, b: Account): Account {
  return {
    run: a.run - b.run,
    wait: a.wait - b.wait,
    voluntary: a.voluntary - b.voluntary,
    involuntary: a.involuntary - b.involuntary,
  };
}

/** Series whose value, or whose beginning, is another than one that never falls may have. */
export function fallen(points: readonly { id: string; point: MetricPoint }[]): string[] {
  const last = new Map<string, MetricPoint>();
  const fell: string[] = [];
  for (const { id, point } of points) {
    if (!point.monotonic || typeof point.value !== 'number') continue;
    const series = JSON.stringify([id, point.metric, point.attributes]);
    const before = last.get(series);
    if (before && (point.value < Number(before.value) || point.start !== before.start))
      fell.push(`${series}: ${before.start} ${before.value} → ${point.start} ${point.value}`);
    last.set(series, point);
  }
  return fell;
}
