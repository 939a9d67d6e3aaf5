import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readText } from '../../linux/read-file.ts';
import type { Looked } from './state.ts';

const watched = ['cpu.shares', 'cpu.weight', 'cpu.idle', 'cpuset.cpus'];

/** Looks at the settings that a move may change, from outside; cheap enough to do every few milliseconds. */
export type SettingsWatch = {
  /** What differs from when the watch was made; empty: nothing. */
  readonly changed: () => string[];
  /** `performance.now()` of the first change. Looks every `everyMs`. @returns null when `seconds` passed without one */
  readonly firstChange: (seconds: number, everyMs?: number) => Promise<number | null>;
  /** Waits until everything is as it was. @returns false when `seconds` passed before that */
  readonly untilRestored: (seconds: number, everyMs?: number) => Promise<boolean>;
};

export function watchSettings(instances: readonly Looked[]): SettingsWatch {
  const files = instances.flatMap(({ folders }) =>
    folders.flatMap(folder => watched.map(name => `${folder}/${name}`).filter(existsSync)),
  );
  const tasks = instances.flatMap(({ processes }) => processes.flatMap(({ pid }) => pid ?? []));
  const readAll = () => [
    ...files.map(file => [file, readText(file)] as const),
    ...tasks.map(tid => [`affinity of ${tid}`, affinityOf(tid)] as const),
  ];
  const before = new Map(readAll());
  const changed = () =>
    readAll().flatMap(([key, value]) => (before.get(key) === value ? [] : `${key} ${value}`));
  const until = async (seconds: number, everyMs: number, met: () => boolean) => {
    for (const deadline = performance.now() + seconds * 1000; !met(); await sleep(everyMs))
      if (performance.now() > deadline) return null;
    return performance.now();
  };
  return {
    changed,
    firstChange: (seconds, everyMs = 10) => until(seconds, everyMs, () => changed().length > 0),
    untilRestored: async (seconds, everyMs = 50) =>
      (await until(seconds, everyMs, () => changed().length === 0)) !== null,
  };
}

function affinityOf(tid: number): string {
  const status = readText(`/proc/${tid}/status`) ?? '';
  return /^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1] ?? 'ended';
}
