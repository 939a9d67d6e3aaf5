import { blockedReasons } from '../probes/sched-layout.ts';
import type { BpftraceRecord } from './output.ts';

type MapRecord = Extract<BpftraceRecord, { type: 'map' }>;

/** How long tasks have slept, also those that still do, of what bpf/sched.bt prints. */
export type Sleeps = {
  /** `did`, `slept` and `us`, in this order. */
  readonly take: (record: MapRecord) => void;
  /** A run is over; the next knows of no sleeper. */
  readonly begin: () => void;
  /** By "cgroup,reason", ns over all runs. Never falls while a key stays. */
  readonly all: () => ReadonlyMap<string, number>;
  readonly drop: (cgroupIds: readonly number[]) => void;
};

/** In `@slept` all times are so much later, in µs. */
const later = 2 ** 40;
/** Where `@did` counts who fell asleep, and who woke. */
const [fell, woke] = [8, 8 + blockedReasons.length];

export function createSleeps(): Sleeps {
  const sums = new Map<string, number>();
  /** Of this run: what all had slept when it was printed last, in µs. */
  let last = new Map<string, number>();
  let sleepers = new Map<string, number>();
  let times = new Map<string, number>();
  const settle = (now: number): void => {
    for (const [key, time] of times) {
      const before = last.get(key) ?? 0;
      const slept = time + (sleepers.get(key) ?? 0) * now;
      // Who fell asleep or woke between the two prints is in one of them.
      const missed = Math.round((slept - before) / now);
      const us = slept - missed * now;
      if (us <= before) continue;
      last.set(key, us);
      sums.set(key, (sums.get(key) ?? 0) + (us - before) * 1000);
    }
  };
  return {
    take: ({ name, entries }) => {
      if (name === 'did') sleepers = sleepersOf(entries);
      else if (name === 'slept') times = new Map(numbersOf(entries));
      else if (name === 'us') for (const [, us] of numbersOf(entries)) settle(us + later);
    },
    begin: () => {
      [last, sleepers, times] = [new Map(), new Map(), new Map()];
    },
    all: () => sums,
    drop: ids => {
      for (const id of ids)
        blockedReasons.forEach((_, reason) => void sums.delete(`${id},${reason}`));
    },
  };
}

function numbersOf(entries: MapRecord['entries']): [key: string, value: number][] {
  return entries.flatMap(([key, value]) => (typeof value === 'number' ? [[key ?? '', value]] : []));
}

function sleepersOf(did: MapRecord['entries']): Map<string, number> {
  const sleepers = new Map<string, number>();
  for (const [key, count] of numbersOf(did)) {
    const [id = 0, what = 0] = key.split(',').map(Number);
    if (what < fell) continue;
    const reason = what < woke ? what - fell : what - woke;
    const change = what < woke ? count : -count;
    sleepers.set(`${id},${reason}`, (sleepers.get(`${id},${reason}`) ?? 0) + change);
  }
  return sleepers;
}
