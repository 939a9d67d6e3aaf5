import { describeError, SculptorError } from '../../contract/errors.ts';
import type { Loss } from '../../contract/metrics/losses.ts';
import { attr } from '../../contract/metrics.ts';
import { bpfCapabilities } from '../../linux/capabilities.ts';
import { type Damon, lookAtDamon, takeDamon } from '../../linux/damon.ts';
import { findHolder } from '../../linux/holder.ts';
import { type MappingReader, openMappings, openProcMappings } from '../../linux/mappings.ts';
import { findQemu } from '../../linux/vcpus.ts';
import type { LivingInstance } from '../instances/instances.ts';
import { createSayByReason } from '../say-limit.ts';
import type { Source, SourceContext, SourceKind } from '../sources/source.ts';
import {
  createHold,
  createMeasurement,
  type Known,
  type Measured,
  sessionSeconds,
} from './access-measurement.ts';

/** What of the memory of instances is used, and what lies idle, as the kernel samples it (DAMON): of the process that has nearly all of it. */
export const accessSource: SourceKind = {
  name: 'access',
  tells: 'what of the memory of instances is used, and what lies idle',
  needs: bpfCapabilities,
  // Root owns the files in question: who stays root needs nothing.
  gains: ({ user }) => (user === undefined ? [] : ['CAP_DAC_OVERRIDE']),
  // Who monitors now may stop.
  comesLater: true,
  start: context =>
    startAccessSource(context, { takeDamon, openMappings: () => mappingsOf(context) }, measured),
  look: context => {
    mappingsOf(context).close();
    return lookAtDamon(context.roots);
  },
};

/** bpftrace 0.17 has no iterator of mappings as one of several probes; who runs it is root, whom /proc tells the same. */
function mappingsOf({ bpftrace, native, roots }: SourceContext): MappingReader {
  return bpftrace ? openProcMappings(roots) : openMappings(native);
}

/** What it stands on. */
export type AccessKernel = {
  readonly takeDamon: typeof takeDamon;
  readonly openMappings: () => MappingReader;
};

/** The kernel is asked once every three seconds, so 20 instances are measured in a minute. */
const measured: Measured = { kdamonds: 20, windowSeconds: 10, parts: 500, windows: 5 };
const turnSeconds = 3;
const staleRounds = 3;
/** Turns in vain until it is said. */
const missesUntilSaid = 4;
/** So many instances are looked at in one turn until one is found that can be measured. */
const looksInTurn = 4;
/** Of which nothing comes, by nobody's fault, has its turns ever more seldom, down to one in so many. */
const seldomest = 10;

const reasons = [
  'no_qemu',
  'hidden',
  'spread',
  'too_small',
  'ended',
  'too_sparse',
  'damon_busy',
  'damon_refused',
] as const;
type Why = (typeof reasons)[number];
/** Of whatever instance. */
const toMend: ReadonlySet<Why> = new Set(['hidden', 'damon_busy', 'damon_refused']);
/** Those that are found without DAMON's refusal, for a person. */
const details = {
  no_qemu: 'no process of its cgroup is its QEMU',
  hidden: '/proc does not show its processes (hidepid)',
  spread: 'it is spread over several processes',
  too_small: 'there is hardly any',
  ended: 'its process ended meanwhile',
  too_sparse: 'far more addresses are mapped than are in memory',
} as const;

type Account = {
  known: Known | null;
  why: Why | null;
  /** Turns in vain, in a row and all of one kind: for reasons that are somebody's to mend, or not. */
  misses: number;
  isToMend: boolean;
  nextTurn: number;
  isMeasured: boolean;
};

export function startAccessSource(
  context: SourceContext,
  kernel: AccessKernel,
  options: Measured,
): Source {
  const { clock, config, say } = context;
  const sayOnce = createSayByReason(clock, say);
  const hold = createHold(context, kernel.takeDamon, options);
  const mappings = openOrStop(hold, kernel.openMappings);
  const { measure, stop: stopMeasuring } = createMeasurement(context, mappings, options);
  const free = Array.from({ length: options.kdamonds }, (_, i) => i);
  const interval = Math.max(config.placementIntervalSeconds, sessionSeconds(options));
  let accounts = new Map<LivingInstance, Account>();
  const ended = new WeakMap<LivingInstance, Account>();
  let refused = 0;

  const miss = (living: LivingInstance, account: Account, why: Why, detail: string): void => {
    // One that ended meanwhile owes nothing.
    if (accounts.get(living) !== account) return;
    // How a VM is started is somebody's to mend; how other programs lay out their memory mostly is not, and the reason is counted.
    const isToMend = living.instance.kind === 'vm' || toMend.has(why);
    account.misses = isToMend === account.isToMend ? account.misses + 1 : 1;
    account.isToMend = isToMend;
    account.why = why;
    if (why === 'damon_refused') refused += 1;
    if (!isToMend) account.nextTurn += interval * Math.min(account.misses - 1, seldomest - 1);
    if (isToMend && account.misses === missesUntilSaid)
      sayOnce(
        why,
        `agent: ${living.instance.name}: what of its memory is used is not told: ${detail} (sculptor.agent.access.unknown counts such instances)`,
      );
  };

  const fail = (living: LivingInstance, account: Account, error: unknown): void => {
    const isBusy = error instanceof SculptorError && error.code === 'KERNEL_BUSY';
    if (isBusy) hold.lose();
    miss(living, account, isBusy ? 'damon_busy' : 'damon_refused', describeError(error));
  };

  const takeTurn = async (living: LivingInstance, account: Account, by: Damon, tgid: number) => {
    const kdamond = free.pop();
    if (kdamond === undefined) return;
    account.isMeasured = true;
    try {
      const found = await measure(by, kdamond, tgid);
      if (typeof found === 'string') miss(living, account, found, details[found]);
      else Object.assign(account, { known: found, why: null, misses: 0 });
    } catch (error) {
      fail(living, account, error);
    }
    account.isMeasured = false;
    free.push(kdamond);
  };

  /** Who has waited longest is measured; those that have no process for it are passed over. */
  const turn = (): void => {
    const now = clock.monotonicSeconds();
    const due = [...accounts]
      .filter(([, { isMeasured, nextTurn }]) => !isMeasured && nextTurn <= now)
      .sort(([, a], [, b]) => a.nextTurn - b.nextTurn);
    for (const [living, account] of due.slice(0, looksInTurn)) {
      try {
        const by = hold.get(free.length === options.kdamonds);
        if (!by || free.length === 0) return;
        account.nextTurn = now + interval;
        const process = findProcess(context, living);
        if (typeof process === 'number') return void takeTurn(living, account, by, process);
        miss(living, account, process, details[process]);
      } catch (error) {
        fail(living, account, error);
      }
    }
  };
  const stopTurns = clock.every(turnSeconds, turn);

  return {
    name: 'access',
    read: living => {
      const before = accounts;
      const now = clock.monotonicSeconds();
      accounts = new Map(living.map(one => [one, before.get(one) ?? newAccount(now)]));
      for (const [one, account] of before) if (!accounts.has(one)) ended.set(one, account);
    },
    samples: living => {
      const known = (accounts.get(living) ?? ended.get(living))?.known;
      const round = Math.max(config.placementIntervalSeconds, accounts.size * turnSeconds);
      const longest = staleRounds * (round + sessionSeconds(options));
      if (!known || known.at < clock.monotonicSeconds() - longest) return [];
      const { start } = living;
      return [
        { metric: 'sculptor.memory.referenced', start, value: known.referenced },
        { metric: 'sculptor.memory.idle', start, value: known.idle },
      ];
    },
    host: () => {
      const why = [...accounts.values()].map(account => account.why);
      return reasons.map(reason => ({
        metric: 'sculptor.agent.access.unknown',
        attributes: { [attr.reason]: reason },
        value: why.filter(one => one === reason).length,
      }));
    },
    lost: () => ({ refused }) satisfies Record<Loss<'access'>, number>,
    forget: () => undefined,
    stop: () => {
      stopTurns();
      stopMeasuring();
      hold.stop();
      mappings.close();
    },
  };
}

/** The process that is measured for an instance, or why there is none. */
function findProcess(
  { roots, layout }: SourceContext,
  { instance, members }: LivingInstance,
): ReturnType<typeof findHolder> | 'no_qemu' {
  return instance.kind === 'vm'
    ? (findQemu(roots, layout, members.values(), instance.id) ?? 'no_qemu')
    : findHolder(roots, layout, members.values());
}

function openOrStop(hold: { readonly stop: () => void }, open: () => MappingReader): MappingReader {
  try {
    return open();
  } catch (error) {
    hold.stop();
    throw error;
  }
}

function newAccount(nextTurn: number): Account {
  return { known: null, why: null, misses: 0, isToMend: false, nextTurn, isMeasured: false };
}
