import type { Placement } from '../../contract/host.ts';
import { type Alternative, type Move, mostMoves } from '../../contract/recommendation.ts';
import { classOf, type HostModel, ruleOf } from '../host-model.ts';
import type { Contender, Contention } from './contenders.ts';
import { largestWeight, shareOf, waitLeft, wantedShare, weightFor } from './sizing.ts';

export type MoveKind = Alternative['kind'];

/** A move that was thought through: `moves` null when it cannot be made, and why says so. */
export type Candidate = {
  readonly kind: MoveKind;
  readonly size: string;
  readonly moves: Move[] | null;
  /** Part of the wait that is left, 0..1. */
  readonly waitLeft: number;
  /** What each other instance loses, 1 − served after / served before. */
  readonly losses: readonly {
    readonly instance: string;
    readonly lossRatio: number;
    readonly limitRatio: number;
  }[];
  readonly why: string;
};

export type Situation = {
  readonly host: HostModel;
  readonly placement: Placement;
  readonly contention: Contention;
  /** Forecast demand of the beneficiary in cores (q95). */
  readonly demandCores: number;
  readonly usedCores: number;
  /** How often this beneficiary's moves were not enough: each doubles the weight. */
  readonly escalation: number;
};

/**
 * What SCHED_IDLE on the contenders costs them beyond what the beneficiary takes, and confining them leaves: measured with
 * bench/calibration/weights.sh and in docs/decisions/0004-planner.md.
 */
const idleOverhead = 0.03;

/** Every kind of move for a beneficiary, sized, with what it brings and what the others lose. */
export function candidatesOf(situation: Situation): Candidate[] {
  const { host, placement } = situation;
  if (classOf(host, placement.instance.id).is === 'latency-critical') {
    // What moves is judged without those that are never moved.
    const movable = situation.contention.contenders.filter(({ isHost }) => !isHost);
    const others = { ...situation, contention: { ...situation.contention, contenders: movable } };
    return [widen(situation), weight(situation), idle(others), confine(others)];
  }
  const why =
    'only what is latency-critical may gain from what others lose, and it is not declared so';
  return [widen(situation), impossible('weight', why)];
}

function impossible(kind: MoveKind, why: string): Candidate {
  return { kind, size: '', moves: null, waitLeft: 1, losses: [], why };
}

/** More CPUs for the beneficiary, where others that it may use stand idle: costs nobody. */
function widen({ host, placement, contention }: Situation): Candidate {
  const online = new Set(host.topology?.cpus.filter(cpu => cpu.online).map(cpu => cpu.id));
  const { parentEffective, effective, path } = placement.cpuset;
  const reachable = (parentEffective.length > 0 ? parentEffective : [...online]).filter(cpu =>
    online.has(cpu),
  );
  const free = reachable.filter(
    cpu => !contention.cpus.includes(cpu) && (host.idle.get(cpu) ?? 0) >= 0.5,
  );
  if (free.length === 0)
    return impossible('widen', 'no CPU outside of its present ones stands idle');
  const cpus = [...contention.cpus, ...free].sort((a, b) => a - b);
  const size = `cpus ${cpus.join(',')}`;
  if (ruleOf(host, placement.instance.id)?.allowWidening !== true) {
    return {
      ...impossible(
        'widen',
        'its policy does not say allowWidening: its pinning is taken as intended',
      ),
      size,
    };
  }
  const bySet = free.some(cpu => !effective.includes(cpu));
  if (bySet && (path === null || path === '/'))
    return impossible('widen', 'it has no cpuset of its own to widen');
  const tasks = bySet
    ? []
    : placement.tasks.map(({ tid, startTicks }) => ({ kind: 'thread' as const, tid, startTicks }));
  return {
    kind: 'widen',
    size,
    moves: [{ instance: placement.instance, tasks, set: { cpus } }],
    waitLeft: 0.1,
    losses: [],
    why: `CPU ${free.join(',')} stands idle: nobody loses anything`,
  };
}

/** A larger weight for the beneficiary, sized from its forecast demand. */
function weight({
  host,
  placement,
  contention,
  demandCores,
  usedCores,
  escalation,
}: Situation): Candidate {
  const present = placement.cgroup.weight;
  if (placement.cgroup.parent === null || present === null) {
    const unit = placement.owner === 'systemd' ? ' (CPUWeight=100 in its unit does that)' : '';
    return impossible(
      'weight',
      `its cgroup has no weight: the cpu controller is not enabled for it${unit}`,
    );
  }
  if (placement.cgroup.idle === true) return impossible('weight', 'its cgroup is SCHED_IDLE');
  const stranger = strongestStranger(contention);
  if (stranger) {
    return impossible(
      'weight',
      `${stranger.placement.instance.id} competes at another level of the tree, where this weight says nothing`,
    );
  }
  const tasks = Math.max(1, Math.ceil(demandCores));
  const wanted = wantedShare(demandCores / tasks);
  const least = weightFor(wanted, contention.contendersWeight * tasks);
  if (least === null) return impossible('weight', `it would take more than ${largestWeight}`);
  if (escalation > 0 && least * 2 ** (escalation - 1) >= largestWeight)
    return impossible('weight', `the largest weight, ${largestWeight}, was not enough`);
  const sized = Math.min(largestWeight, least * 2 ** escalation);
  const size = `weight ${sized}`;
  if (sized <= present)
    return { ...impossible('weight', `it has ${Math.round(present)} already`), size };
  const share = shareOf(sized, contention.contendersWeight * tasks);
  return {
    kind: 'weight',
    size,
    moves: [{ instance: placement.instance, tasks: [], set: { weight: sized } }],
    waitLeft: waitLeft(share, shareOf(present, contention.contendersWeight * tasks)),
    losses: lossesTo(
      host,
      contention,
      demandCores - usedCores,
      0,
      host.policy.batch.outweighedDegradationRatio,
    ),
    why: `makes its share of a CPU ${(share * 100).toFixed(0)} %, for a forecast demand of ${demandCores.toFixed(2)} cores`,
  };
}

/** What strangers may want beside what siblings want, for a weight among siblings to be enough. */
const strangersRatio = 0.2;

/** Who competes most at another level of the tree; null when all of those together hardly matter. */
function strongestStranger({ contenders }: Contention): Contender | null {
  let [siblings, strangers] = [0, 0];
  let strongest: Contender | null = null;
  for (const contender of contenders) {
    if (contender.sibling) {
      siblings += contender.activity;
      continue;
    }
    strangers += contender.activity;
    if (contender.activity > (strongest?.activity ?? 0)) strongest = contender;
  }
  return strangers > strangersRatio * siblings ? strongest : null;
}

/** SCHED_IDLE for every contender, where all of them are declared batch. */
function idle({ host, contention, demandCores, usedCores }: Situation): Candidate {
  const refusal = notAllowed(host, contention, 'idle');
  if (refusal) return refusal;
  const without = contention.contenders.find(({ placement }) => placement.cgroup.idle === null);
  if (without) return impossible('idle', `${without.placement.instance.id} has no cpu.idle`);
  if (contention.contenders.every(({ placement }) => placement.cgroup.idle))
    return impossible('idle', 'they are SCHED_IDLE already');
  const touched = contention.contenders.length / Math.max(1, contention.instances);
  return {
    kind: 'idle',
    size: `idle on ${contention.contenders.length}`,
    moves: contention.contenders.map(({ placement }) => ({
      instance: placement.instance,
      tasks: [],
      set: { idle: true },
    })),
    waitLeft: 0.05,
    losses: lossesTo(
      host,
      contention,
      demandCores - usedCores,
      idleOverhead,
      host.policy.batch.outweighedDegradationRatio,
    ),
    why: `touches ${contention.contenders.length} instances (${(touched * 100).toFixed(0)} % of all)`,
  };
}

/** The contenders packed on fewer CPUs, where all of them are declared batch and have a cpuset or tasks to move. */
function confine({ host, contention, demandCores }: Situation): Candidate {
  const refusal = notAllowed(host, contention, 'cpuset');
  if (refusal) return refusal;
  const freed = Math.max(1, Math.ceil(demandCores));
  const rest = contention.cpus.slice(freed);
  if (rest.length === 0)
    return impossible(
      'cpuset',
      `the beneficiary needs ${freed} of the ${contention.cpus.length} CPUs: none would be left`,
    );
  const own = contention.contenders.every(
    ({ placement }) => placement.cpuset.path !== null && placement.cpuset.path !== '/',
  );
  const listed = contention.contenders.every(
    ({ placement }) => placement.tasks.length === placement.taskCount,
  );
  if (!own && !listed) return impossible('affinity', 'not every task of the contenders is known');
  const cores = contention.contenders.reduce((sum, each) => sum + each.observation.usedCores, 0);
  const lossRatio = 1 - Math.min(rest.length, cores) / Math.max(1e-9, cores);
  return {
    kind: own ? 'cpuset' : 'affinity',
    size: `cpus ${rest.join(',')}`,
    moves: contention.contenders.map(({ placement }) => ({
      instance: placement.instance,
      tasks: own
        ? []
        : placement.tasks.map(({ tid, startTicks }) => ({
            kind: 'thread' as const,
            tid,
            startTicks,
          })),
      set: { cpus: rest },
    })),
    waitLeft: 0.05,
    losses: contention.contenders.map(({ placement }) => ({
      instance: placement.instance.id,
      lossRatio,
      limitRatio: host.policy.batch.confinedDegradationRatio,
    })),
    why: `leaves them ${rest.length} of ${contention.cpus.length} CPUs`,
  };
}

/** Why the contenders may not all be moved; null when they may. */
function notAllowed(host: HostModel, contention: Contention, kind: MoveKind): Candidate | null {
  if (contention.contenders.length === 0) {
    return impossible(
      kind === 'cpuset' ? 'affinity' : kind,
      'nobody else competes: its own tasks contend in one cgroup. Confining some of them would help the others and raise what the instance waits in all, by which a move is judged; a cgroup of their own is the cure',
    );
  }
  const other = contention.contenders.find(({ rule }) => rule?.class !== 'batch');
  if (other) return impossible(kind, `${other.placement.instance.id} is not declared batch`);
  // The sculptor refuses what touches more: recommending it would only waste the time until the next attempt.
  const [touched, all] = [contention.contenders.length, contention.instances];
  if (touched > mostMoves)
    return impossible(kind, `would touch ${touched} instances; ${mostMoves} may be moved at once`);
  const { maxTouchedRatio } = host.policy.limits;
  return touched > Math.max(1, Math.floor(maxTouchedRatio * all))
    ? impossible(
        kind,
        `would touch ${touched} of ${all} instances; the policy allows ${(maxTouchedRatio * 100).toFixed(0)} %`,
      )
    : null;
}

/**
 * What the beneficiary gets more is what the contenders get less, in proportion to what they get now. Those that want less
 * than an equal part of the CPUs lose nothing: fairness serves them first.
 */
function lossesTo(
  host: HostModel,
  { contenders, cpus }: Contention,
  takenCores: number,
  overhead: number,
  batchLimit: number,
): Candidate['losses'] {
  const equalPart = cpus.length / (contenders.length + 1);
  const isBacklogged = ({ activity }: Contender) => activity > equalPart;
  const lostFrom = contenders
    .filter(isBacklogged)
    .reduce((sum, { observation }) => sum + observation.usedCores, 0);
  const lossRatio = Math.min(1, Math.max(0, takenCores) / Math.max(1e-9, lostFrom) + overhead);
  // The host is no instance, and no neighbour to the sculptor's verification either.
  const neighbours = contenders.filter(({ isHost }) => !isHost);
  return neighbours.map(contender => ({
    instance: contender.placement.instance.id,
    lossRatio: isBacklogged(contender) ? lossRatio : overhead,
    limitRatio:
      contender.rule?.maxDegradationRatio ??
      (contender.rule?.class === 'batch' ? batchLimit : host.policy.maxDegradationRatio),
  }));
}
