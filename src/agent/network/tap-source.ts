import type { Loss } from '../../contract/metrics/losses.ts';
import { attr } from '../../contract/metrics.ts';
import { readQemuArguments } from '../../linux/command-line.ts';
import { readTaskStat } from '../../linux/procfs.ts';
import {
  hasMacvtaps,
  mayAskDevices,
  readTapCounters,
  readTaps,
  type Tap,
  type TapCounters,
} from '../../linux/taps.ts';
import { unseenInterfaces, unseenKinds } from '../../linux/unseen-interfaces.ts';
import { findQemu } from '../../linux/vcpus.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { createSayByReason } from '../say-limit.ts';
import { dropAbsent } from '../sources/absent.ts';
import { createReadingTurns } from '../sources/reading-turns.ts';
import type { Source, SourceContext, SourceKind } from '../sources/source.ts';

/** What VMs send and receive, as the host counts it at their interfaces; it sees also what vhost carries. */
export const tapSource: SourceKind = {
  name: 'taps',
  tells: 'bytes, packets and drops of the interfaces of VMs',
  needs: ['CAP_SYS_PTRACE'],
  // To see which macvtaps another user's QEMU holds; kept only where there are some when the agent starts.
  gains: (_, sys) => (hasMacvtaps(sys) ? ['CAP_DAC_READ_SEARCH'] : []),
  start: startTapSource,
};

/** One interface of a life: counted from when it was first seen, and on when it was made anew under its name. */
type KnownTap = { readonly since: number; last: TapCounters; sum: TapCounters; absent: number };

/** Why interfaces of a VM are not told. */
const reasons = [
  'descriptors_refused',
  'devices_refused',
  'third_namespace',
  ...unseenKinds,
] as const;

type Machine = {
  /** Of its QEMU; null: it is not known which taps it has. */
  held: { readonly tgid: number; readonly taps: readonly Tap[] } | null;
  untold: ReadonlySet<(typeof reasons)[number]>;
  lookedAt: number;
  readonly taps: Map<string, KnownTap>;
};

/** Interfaces of one VM that are told; a machine has a few. */
const mostTaps = 32;

function startTapSource(context: SourceContext): Source {
  const { roots, layout, clock, config, say } = context;
  const sayOnce = createSayByReason(clock, say);
  const machines = new WeakMap<LivingInstance, Machine>();
  const lost = { descriptors_refused: 0, too_many: 0 };
  let present: readonly LivingInstance[] = [];

  const look = (living: LivingInstance, machine: Machine): void => {
    machine.lookedAt = clock.monotonicSeconds();
    const tgid = findQemu(roots, layout, living.members.values(), living.instance.id);
    const taps = tgid === null ? null : readTaps(roots, tgid);
    machine.held = tgid === null || taps === null ? null : { tgid, taps };
    machine.untold = new Set(tgid === null ? [] : whyUntold(roots, tgid, taps));
    if (taps !== null) dropAbsent(machine.taps, new Set(taps.map(({ name }) => name)));
    // One that has ended has no descriptors either.
    if (tgid === null || taps !== null || readTaskStat(roots, tgid) === null) return;
    lost.descriptors_refused += 1;
    sayOnce(
      'descriptors_refused',
      `agent: ${living.instance.name}: its interfaces are not told: the descriptors of its QEMU (${tgid}) may not be read, CAP_SYS_PTRACE is wanted (sculptor.agent.interfaces.unknown counts such VMs)`,
    );
  };

  const take = (living: LivingInstance): void => {
    if (living.instance.kind !== 'vm') return;
    const machine = machines.get(living) ?? newMachine();
    machines.set(living, machine);
    if (clock.monotonicSeconds() - machine.lookedAt >= config.placementIntervalSeconds)
      look(living, machine);
    if (machine.held === null) return;
    const { tgid, taps } = machine.held;
    for (const [name, counters] of readTapCounters(roots, tgid, taps)) {
      const tap = machine.taps.get(name);
      if (tap) advance(tap, counters);
      else if (machine.taps.size < mostTaps)
        machine.taps.set(name, {
          since: clock.unixSeconds(),
          last: counters,
          sum: zeros,
          absent: 0,
        });
      else lost.too_many += 1;
    }
  };
  const turns = createReadingTurns(clock, config, take);

  return {
    name: 'taps',
    read: living => {
      present = living.filter(({ instance }) => instance.kind === 'vm');
      turns.next(present);
    },
    samples: living =>
      [...(machines.get(living)?.taps ?? [])].flatMap(([name, tap]) => tapSamples(name, tap)),
    host: () => {
      const known = present.map(living => machines.get(living)?.untold);
      return reasons.map(reason => ({
        metric: 'sculptor.agent.interfaces.unknown',
        attributes: { [attr.reason]: reason },
        value: known.filter(untold => untold?.has(reason)).length,
      }));
    },
    lost: () => ({ ...lost, unread: turns.failed() }) satisfies Record<Loss<'taps'>, number>,
    forget: () => undefined,
    stop: turns.stop,
  };
}

function whyUntold(
  roots: SourceContext['roots'],
  tgid: number,
  taps: readonly Tap[] | null,
): (typeof reasons)[number][] {
  const unseen = [...unseenInterfaces(roots, readQemuArguments(roots, tgid))];
  if (taps === null) return [...unseen, 'descriptors_refused'];
  if (taps.some(({ place }) => place === 'third')) return [...unseen, 'third_namespace'];
  if (hasMacvtaps(roots.sys) && !mayAskDevices(roots, tgid)) return [...unseen, 'devices_refused'];
  return unseen;
}

const zeros: TapCounters = {
  receivedBytes: 0,
  sentBytes: 0,
  receivedPackets: 0,
  sentPackets: 0,
  receivedDropped: 0,
  sentDropped: 0,
};

function newMachine(): Machine {
  return { held: null, untold: new Set(), lookedAt: Number.NEGATIVE_INFINITY, taps: new Map() };
}

/** Bytes that fell: the interface was made anew, and all that it counted is new. */
function advance(tap: KnownTap, next: TapCounters): void {
  const anew = next.receivedBytes < tap.last.receivedBytes || next.sentBytes < tap.last.sentBytes;
  const from = anew ? zeros : tap.last;
  const grown = (key: keyof TapCounters): number =>
    tap.sum[key] + Math.max(0, next[key] - from[key]);
  tap.sum = {
    receivedBytes: grown('receivedBytes'),
    sentBytes: grown('sentBytes'),
    receivedPackets: grown('receivedPackets'),
    sentPackets: grown('sentPackets'),
    receivedDropped: grown('receivedDropped'),
    sentDropped: grown('sentDropped'),
  };
  tap.last = next;
}

function tapSamples(name: string, { since, sum }: KnownTap): Sample[] {
  const both = (metric: Sample['metric'], received: number, sent: number): Sample[] =>
    (
      [
        ['receive', received],
        ['transmit', sent],
      ] as const
    ).map(([direction, value]) => ({
      metric,
      attributes: { [attr.networkDirection]: direction, [attr.networkInterface]: name },
      start: since,
      value,
    }));
  return [
    ...both('container.network.io', sum.receivedBytes, sum.sentBytes),
    ...both('sculptor.network.interface.packets', sum.receivedPackets, sum.sentPackets),
    ...both('sculptor.network.interface.dropped', sum.receivedDropped, sum.sentDropped),
  ];
}
