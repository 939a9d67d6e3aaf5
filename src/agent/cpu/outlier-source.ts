import { hash } from 'node:crypto';
import type { OutgoingEvent } from '../../contract/events.ts';
import { attr } from '../../contract/metrics.ts';
import type { Outlier } from '../../contract/outlier.ts';
import { bpfCapabilities } from '../../linux/capabilities.ts';
import { createKernelSymbols, type KernelSymbols } from '../../linux/kernel-symbols.ts';
import { plainName } from '../../linux/plain-name.ts';
import { plainEvent } from '../../otlp/plain-event.ts';
import { startOutliersScript } from '../bpftrace/outliers-script.ts';
import { scriptContextOf } from '../bpftrace/script.ts';
import {
  type OutlierCounts,
  type OutlierProbe,
  type Party,
  type RawOutlier,
  startOutlierProbe,
} from '../probes/outliers.ts';
import type { SourceContext, SourceKind } from '../sources/source.ts';

/** How often those that the kernel has kept are taken. */
const takeSeconds = 0.5;
/** Of one look, and looks whose stacks are still being named; more would push other events out of the queue of all. */
const mostAtOnce = 256;
const mostBatches = 4;
const none: OutlierCounts = { found: 0, limited: 0, full: 0, memory: 0 };

/** Waits in the run queue past a threshold, one by one, as events `sculptor.outlier`; nothing is attached while nobody asks. */
export const outlierSource: SourceKind = {
  name: 'outliers',
  tells: 'long waits one by one, where agent.outliers asks for them',
  needs: bpfCapabilities,
  // The addresses in /proc/kallsyms, or no function of a stack has a name.
  gains: ({ outliers }) => (outliers.aboveSeconds === null ? [] : ['CAP_SYSLOG']),
  start: context => {
    const { clock, config, emit, hostId } = context;
    const names = new Map<number, string>();
    const symbols = createKernelSymbols(context.roots);
    let asked = config.outliers;
    let probe = startAsked(context);
    let past = none;
    const stopping = new Set<Promise<void>>();
    const own = { told: 0, excess: 0 };
    let trouble: unknown;
    let telling = Promise.resolve();
    let batches = 0;

    const tellAll = async (taken: readonly Timed[]): Promise<void> => {
      try {
        await symbols.learn(taken.flatMap(({ raw }) => raw.stack));
        for (const timed of taken) emit(outlierEvent(outlierOf(timed, hostId, names, symbols)));
        own.told += taken.length;
      } catch (error) {
        own.excess += taken.length;
        trouble = error;
      } finally {
        batches -= 1;
      }
    };
    const tell = (): void => {
      const taken = probe?.take() ?? [];
      // CLOCK_MONOTONIC, which Node tells too.
      const [time, monotonicNs] = [clock.unixSeconds(), Number(process.hrtime.bigint())];
      const kept = batches < mostBatches ? taken.slice(0, mostAtOnce) : [];
      own.excess += taken.length - kept.length;
      if (kept.length === 0) return;
      const timed = kept.map(raw => ({ raw, at: time - (monotonicNs - raw.endedNs) / 1e9 }));
      batches += 1;
      telling = telling.then(() => tellAll(timed));
    };
    const counts = (): OutlierCounts => plus(past, probe?.counts() ?? none);
    const detach = (): void => {
      tell();
      past = counts();
      const gone = Promise.resolve(probe?.stop()).finally(() => stopping.delete(gone));
      stopping.add(gone);
      probe = null;
    };
    const follow = (): void => {
      if (isSame(config.outliers, asked)) return;
      detach();
      probe = startAsked(context);
      asked = config.outliers;
    };
    const cancel = clock.every(takeSeconds, () => {
      // Until it was told: what is refused now is refused again.
      if (trouble !== undefined) return;
      try {
        follow();
        tell();
      } catch (error) {
        trouble = error;
      }
    });

    return {
      name: 'outliers',
      read: living => {
        names.clear();
        for (const { members, instance } of living)
          for (const id of members.keys()) names.set(id, instance.id);
        const met = trouble;
        trouble = undefined;
        if (met !== undefined) throw met;
      },
      samples: () => [],
      host: () => {
        const { limited, full, memory } = counts();
        return Object.entries({ ...own, limited, full, memory }).map(([reason, value]) => ({
          metric: 'sculptor.agent.outliers',
          attributes: { [attr.reason]: reason },
          value,
        }));
      },
      lost: () => ({ not_told: counts().full + counts().memory + own.excess }),
      forget: () => undefined,
      trouble: () => probe?.trouble?.() ?? null,
      attached: probe?.attached,
      stop: async () => {
        cancel();
        detach();
        await Promise.all(stopping);
      },
    };
  },
};

function startAsked(context: SourceContext): OutlierProbe | null {
  const { native, layout, config } = context;
  const { aboveSeconds, perInstancePerSecond } = config.outliers;
  if (aboveSeconds === null) return null;
  const scripts = scriptContextOf(context);
  if (scripts) return startOutliersScript(scripts, { aboveSeconds, perInstancePerSecond });
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

type Timed = { readonly raw: RawOutlier /** Seconds since the epoch. */; readonly at: number };

/** `names`: instance ids by cgroup id. */
function outlierOf(
  { raw, at }: Timed,
  hostId: string,
  names: ReadonlyMap<number, string>,
  symbols: Pick<KernelSymbols, 'nameOf'>,
): Outlier {
  const party = ({ cgroupId, tid, tgid, name }: Party) => ({
    tid,
    tgid,
    name,
    instance: names.get(cgroupId) ?? null,
  });
  const stack = raw.stack.map(symbols.nameOf);
  return {
    hostId,
    at,
    seconds: raw.latencyNs / 1e9,
    throttledSeconds: raw.throttledNs / 1e9,
    cpu: raw.cpu,
    task: { ...party(raw.waiter), startTicks: raw.startTicks },
    began: raw.began,
    waker: raw.waker && party(raw.waker),
    preemptor: raw.preemptor && party(raw.preemptor),
    stack,
    stackId: idOf(stack),
  };
}

/** 64 bits of the functions' names: where those are told it is the same on every host. */
function idOf(stack: readonly string[]): string | null {
  return stack.length === 0 ? null : hash('sha256', stack.join('\n')).slice(0, 16);
}

/** The event of one wait, and the sentence that a person reads. */
export function outlierEvent(outlier: Outlier): OutgoingEvent {
  const { task, began, waker, preemptor, seconds, throttledSeconds, cpu } = outlier;
  const who = (party: { name: string; tid: number; instance: string | null }): string =>
    `${plainName(party.name)} (${party.tid}, ${party.instance ?? 'an instance not known'})`;
  const ms = (time: number): string => `${(time * 1e3).toFixed(1)} ms`;
  const besides = throttledSeconds > 0 ? `, throttled for ${ms(throttledSeconds)} besides` : '';
  const beginnings = {
    woken: `woken by ${waker ? who(waker) : 'an interrupt'}`,
    preempted: 'preempted',
    throttled: 'its quota was used up',
  };
  const body = [
    `${who(task)} waited ${ms(seconds)} for CPU ${cpu}${besides}`,
    beginnings[began],
    preemptor ? `it ran after ${who(preemptor)}` : 'the CPU was idle',
  ].join('; ');
  return { ...plainEvent('sculptor.outlier', outlier, body), at: outlier.at };
}
