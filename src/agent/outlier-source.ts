import type { OutgoingEvent } from '../contract/events.ts';
import { attr } from '../contract/metrics.ts';
import type { Outlier } from '../contract/outlier.ts';
import { bpfCapabilities } from '../linux/capabilities.ts';
import { type KernelSymbols, readKernelSymbols } from '../linux/kernel-symbols.ts';
import { plainEvent } from '../otlp/plain-event.ts';
import {
  type OutlierCounts,
  type OutlierProbe,
  type Party,
  type RawOutlier,
  startOutlierProbe,
} from './probes/outliers.ts';
import type { SourceContext, SourceKind } from './source.ts';

/** How often those that the kernel has kept are taken. */
const takeSeconds = 0.5;
const none: OutlierCounts = { found: 0, limited: 0, full: 0, memory: 0 };

/** Waits in the run queue past a threshold, one by one, as events `sculptor.outlier`; nothing is attached while nobody asks. */
export const outlierSource: SourceKind = {
  name: 'outliers',
  tells: 'long waits one by one, where agent.outliers asks for them',
  needs: bpfCapabilities,
  // The addresses in /proc/kallsyms, or no function of a stack has a name.
  gains: ({ outliers }) => (outliers.aboveSeconds === null ? [] : ['CAP_SYSLOG']),
  start: context => {
    const { clock, config } = context;
    const names = new Map<number, string>();
    let asked = config.outliers;
    let probe = startAsked(context);
    let past = none;
    let told = 0;
    let symbols: KernelSymbols | undefined;

    const tell = (): void => {
      const taken = probe?.take() ?? [];
      if (!probe || taken.length === 0) return;
      symbols ??= readKernelSymbols(context.roots);
      const scene = { hostId: context.hostId, names, symbols, stack: probe.stack };
      // CLOCK_MONOTONIC, which Node tells too.
      const ago = Number(process.hrtime.bigint());
      for (const raw of taken) {
        const at = clock.unixSeconds() - (ago - raw.endedNs) / 1e9;
        context.emit(outlierEvent(outlierOf(raw, at, scene)));
        told += 1;
      }
    };
    const cancel = clock.every(takeSeconds, tell);
    const counts = (): OutlierCounts => plus(past, probe?.counts() ?? none);
    const detach = (): void => {
      tell();
      past = counts();
      probe?.stop();
      probe = null;
    };

    return {
      name: 'outliers',
      read: living => {
        names.clear();
        for (const { members, instance } of living)
          for (const id of members.keys()) names.set(id, instance.id);
        if (isSame(config.outliers, asked)) return;
        detach();
        asked = config.outliers;
        probe = startAsked(context);
      },
      samples: () => [],
      host: () => {
        const { limited, full, memory } = counts();
        return Object.entries({ told, limited, full, memory }).map(([reason, value]) => ({
          metric: 'sculptor.agent.outliers',
          attributes: { [attr.reason]: reason },
          value,
        }));
      },
      lost: () => ({ not_told: counts().full + counts().memory }),
      forget: () => undefined,
      stop: () => {
        cancel();
        detach();
      },
    };
  },
};

function startAsked({ native, layout, config }: SourceContext): OutlierProbe | null {
  const { aboveSeconds, perInstancePerSecond } = config.outliers;
  if (aboveSeconds === null) return null;
  const cgroupV1 = layout.version === 1;
  return startOutlierProbe({ native, cgroupV1, aboveSeconds, perInstancePerSecond });
}

type Asked = SourceContext['config']['outliers'];

function isSame(a: Asked, b: Asked): boolean {
  return a.aboveSeconds === b.aboveSeconds && a.perInstancePerSecond === b.perInstancePerSecond;
}

function plus(a: OutlierCounts, b: OutlierCounts): OutlierCounts {
  return {
    found: a.found + b.found,
    limited: a.limited + b.limited,
    full: a.full + b.full,
    memory: a.memory + b.memory,
  };
}

type Scene = {
  readonly hostId: string;
  /** Instance ids by cgroup id. */
  readonly names: ReadonlyMap<number, string>;
  readonly symbols: KernelSymbols;
  readonly stack: OutlierProbe['stack'];
};

function outlierOf(raw: RawOutlier, at: number, scene: Scene): Outlier {
  const party = ({ cgroupId, tid, tgid, name }: Party) => ({
    tid,
    tgid,
    name,
    instance: scene.names.get(cgroupId) ?? null,
  });
  const frames = raw.stackId === null ? null : scene.stack(raw.stackId);
  return {
    hostId: scene.hostId,
    at,
    seconds: raw.latencyNs / 1e9,
    cpu: raw.cpu,
    task: { ...party(raw.waiter), startTicks: raw.startTicks },
    began: raw.woken ? 'woken' : 'preempted',
    waker: raw.waker && party(raw.waker),
    preemptor: raw.preemptor && party(raw.preemptor),
    stack:
      raw.stackId === null || frames === null
        ? null
        : { id: raw.stackId, frames: frames.map(scene.symbols) },
  };
}

function outlierEvent(outlier: Outlier): OutgoingEvent {
  const { task, began, waker, preemptor, seconds, cpu } = outlier;
  const who = (party: { name: string; tid: number; instance: string | null }): string =>
    `${party.name} (${party.tid}, ${party.instance ?? 'an instance not known'})`;
  const body = [
    `${who(task)} waited ${(seconds * 1e3).toFixed(1)} ms for CPU ${cpu}`,
    began === 'preempted' ? began : `woken by ${waker ? who(waker) : 'an interrupt'}`,
    preemptor ? `it ran after ${who(preemptor)}` : 'the CPU was idle',
  ].join('; ');
  return plainEvent('sculptor.outlier', outlier, body);
}
