import { describeError } from '../../contract/errors.ts';
import { attr, type MetricName } from '../../contract/metrics.ts';
import { readQemuArguments } from '../../linux/command-line.ts';
import { isLibvirts } from '../../linux/libvirt.ts';
import { adviceForQmp, type askQmp, type QmpArguments, qmpSocketOf } from '../../linux/qmp.ts';
import { findQemu } from '../../linux/vcpus.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { createSayByReason } from '../say-limit.ts';
import type { Source, SourceContext } from '../sources/source.ts';

/** One VM whose turn it is. */
export type AskedMachine<Known> = {
  readonly living: LivingInstance;
  readonly known: Known;
  /** Its QEMU. */
  readonly tgid: number;
  /** @throws KernelInterfaceError QMP_UNAVAILABLE */
  readonly ask: (execute: string, args?: QmpArguments) => Promise<unknown>;
};

/** Why a monitor that answered told nothing. */
export type Untold<Why> = {
  readonly why: Why;
  readonly detail: string;
  /** When it is asked again; absent: ever more seldom, as one that is silent. */
  readonly againSeconds?: number;
};

type TurnOptions<Known, Why> = {
  readonly intervalSeconds: () => number;
  /** VMs with a question under way; a monitor that is silent holds one of these places for as long as it may. */
  readonly mostAtOnce: number;
  /** What a question may come to beside `no_qemu`, `no_qmp` and `qmp_silent`. */
  readonly reasons: readonly Why[];
  /** For a person, of a VM that is asked in vain. */
  readonly untold: string;
  /** VMs whose last question came to nothing, by reason. */
  readonly unknownMetric: MetricName;
  readonly newKnown: () => Known;
  /** Takes what is answered into `known`. Null: all of it was told; what it throws is counted as no answer. */
  readonly question: (machine: AskedMachine<Known>) => Promise<Untold<Why> | null>;
  /** As `question`, of a VM of libvirt's that has no monitor but libvirt's own. Absent: libvirt does not tell it. */
  readonly byLibvirt?: (
    machine: Omit<AskedMachine<Known>, 'ask'>,
  ) => Promise<Untold<Why | 'no_qmp'> | null>;
};

export type QmpTurns<Known> = {
  /** These instances are there now; the VMs among them are asked. */
  readonly follow: Source['read'];
  /** What is known of a VM, also of one that has ended. */
  readonly of: (living: LivingInstance) => Known | undefined;
  /** How many VMs told nothing when they were asked last, by reason. */
  readonly unknown: Source['host'];
  /** Questions without an answer, since the start. */
  readonly unanswered: () => number;
  readonly stop: () => void;
};

type Machine<Known> = {
  readonly known: Known;
  why: string | null;
  /** Questions in vain in a row. */
  misses: number;
  nextAsk: number;
  asked: boolean;
};

const turnSeconds = 1;
const qmpLimits = { timeoutSeconds: 2, maxBytes: 1 << 20 };
/** One that is asked in vain is asked again after 2, 4, 8 … intervals, and at last as seldom. */
const mostIntervals = 32;
/** Questions in vain until it is said. */
const missesUntilSaid = 4;

/**
 * Asks the monitor of each VM once in an interval, on a timer of its own: the longest due first, a bounded number at once, and
 * those that do not answer ever more seldom, so that none of them holds up another. `ask` is `askQmp`.
 */
export function createQmpTurns<Known, Why extends string>(
  { roots, layout, clock, say }: SourceContext,
  ask: typeof askQmp,
  options: TurnOptions<Known, Why>,
): QmpTurns<Known> {
  const { intervalSeconds, mostAtOnce, reasons, untold, unknownMetric, newKnown, question } =
    options;
  const sayOnce = createSayByReason(clock, say);
  let machines = new Map<LivingInstance, Machine<Known>>();
  const ended = new WeakMap<LivingInstance, Machine<Known>>();
  let unanswered = 0;
  let underWay = 0;

  const noAnswer = (machine: Machine<Known>, why: string): void => {
    machine.why = why;
    if (why.endsWith('_silent')) unanswered += 1;
  };

  const miss = (living: LivingInstance, machine: Machine<Known>, why: string, detail: string) => {
    // One that ended meanwhile owes no answer.
    if (machines.get(living) !== machine) return;
    noAnswer(machine, why);
    machine.misses += 1;
    if (machine.misses === missesUntilSaid)
      sayOnce(
        why,
        `agent: ${living.instance.name}: ${untold}: ${detail} (${unknownMetric} counts such VMs)`,
      );
  };

  const put = async (
    machine: Omit<AskedMachine<Known>, 'ask'>,
    socket: string | null,
  ): Promise<Untold<string> | null> => {
    const { tgid } = machine;
    if (socket !== null)
      return await question({
        ...machine,
        ask: (execute, args) => ask(socket, execute, { ...qmpLimits, listener: tgid }, args),
      });
    if (!options.byLibvirt || !isLibvirts(readQemuArguments(roots, tgid)))
      return { why: 'no_qmp', detail: adviceForQmp(roots, tgid) };
    // It waits until libvirt is asked of all, and takes nobody's place meanwhile.
    underWay -= 1;
    try {
      return await options.byLibvirt(machine);
    } finally {
      underWay += 1;
    }
  };

  /** Seconds until it is asked again where that is not a matter of its misses. */
  const takeTurn = async (
    living: LivingInstance,
    machine: Machine<Known>,
  ): Promise<number | undefined> => {
    try {
      const tgid = findQemu(roots, layout, living.members.values(), living.instance.id);
      const socket = tgid === null ? null : qmpSocketOf(roots, tgid);
      if (tgid === null) miss(living, machine, 'no_qemu', 'no process of its cgroup is its QEMU');
      else {
        const nothing = await put({ living, known: machine.known, tgid }, socket);
        if (nothing === null) [machine.why, machine.misses] = [null, 0];
        else if (nothing.againSeconds === undefined)
          miss(living, machine, nothing.why, nothing.detail);
        else if (machines.get(living) === machine) noAnswer(machine, nothing.why);
        return nothing?.againSeconds;
      }
    } catch (error) {
      miss(living, machine, 'qmp_silent', describeError(error));
    }
    return undefined;
  };

  const turn = (): void => {
    const now = clock.monotonicSeconds();
    const due = [...machines]
      .filter(([, { asked, nextAsk }]) => !asked && nextAsk <= now)
      .sort(([, a], [, b]) => a.nextAsk - b.nextAsk);
    for (const [living, machine] of due.slice(0, mostAtOnce - underWay)) {
      machine.asked = true;
      underWay += 1;
      void takeTurn(living, machine).then(againSeconds => {
        machine.asked = false;
        underWay -= 1;
        const intervals = Math.min(2 ** machine.misses, mostIntervals);
        machine.nextAsk = now + (againSeconds ?? intervals * intervalSeconds());
      });
    }
  };
  const stop = clock.every(turnSeconds, turn);

  return {
    follow: living => {
      const present = living.filter(({ instance }) => instance.kind === 'vm');
      const before = machines;
      machines = new Map(present.map(one => [one, before.get(one) ?? newMachine(newKnown())]));
      for (const [one, machine] of before) if (!machines.has(one)) ended.set(one, machine);
    },
    of: living => (machines.get(living) ?? ended.get(living))?.known,
    unknown: () => {
      const why = [...machines.values()].map(machine => machine.why);
      return ['no_qemu', 'no_qmp', 'qmp_silent', ...reasons].map(reason => ({
        metric: unknownMetric,
        attributes: { [attr.reason]: reason },
        value: why.filter(one => one === reason).length,
      }));
    },
    unanswered: () => unanswered,
    stop,
  };
}

function newMachine<Known>(known: Known): Machine<Known> {
  return { known, why: null, misses: 0, nextAsk: Number.NEGATIVE_INFINITY, asked: false };
}
