import type { Action, ActionReason } from '../contract/action.ts';
import { instancePolicyOf, type Policy } from '../contract/policy.ts';
import type { Recommendation } from '../contract/recommendation.ts';
import { problem } from './actuators/cgroup-file.ts';
import { coresOf, type HeadlineSeries } from './headline-series.ts';
import { type History, involved } from './history.ts';
import type { Plan } from './plan.ts';

/** `deferred`: it may be asked again later; `rejected`: it is wrong as it is. */
export type Refusal = { readonly state: 'rejected' | 'deferred'; readonly reason: ActionReason };

export type AdmissionInput = {
  readonly policy: Policy;
  readonly recommendation: Recommendation;
  /** What is moved, and what is moved with it. */
  readonly affected: readonly string[];
  readonly plan: Pick<Plan, 'widened' | 'entries'>;
  /** Actions that hold something, or are about to. */
  readonly running: readonly Action[];
  /** What is not given back yet, and the action that it is open of: also one that is over. */
  readonly held: ReadonlyMap<string, string>;
  readonly history: History;
  readonly series: HeadlineSeries;
  /** Seconds since the epoch. */
  readonly now: number;
};

/** Telemetry older than this, or than three of its intervals, is stale. */
const staleSeconds = 15;
/** Contention may have begun a moment ago, or come and go: each of these spans is looked at. */
const contentionSpansSeconds = [0.4, 1, 3];

/** The guard: null when policy, limits and what the host measured allow the action now; else the first thing that does not. */
export function admit(input: AdmissionInput): Refusal | null {
  for (const check of checks) {
    const refusal = check(input);
    if (refusal) return refusal;
  }
  return null;
}

const checks: readonly ((input: AdmissionInput) => Refusal | null)[] = [
  protection,
  widening,
  gain,
  telemetry,
  contention,
  changeWindow,
  overlap,
  inFlight,
  rest,
  perHour,
  touchedShare,
];

function protection({ policy, affected }: AdmissionInput): Refusal | null {
  for (const id of affected) {
    if (instancePolicyOf(policy, id)?.protected)
      return rejected('protected', `instance ${id}: the policy protects it from every move`);
  }
  return null;
}

function widening({ policy, plan }: AdmissionInput): Refusal | null {
  for (const id of plan.widened) {
    if (!instancePolicyOf(policy, id)?.allowWidening) {
      return rejected(
        'widening-not-allowed',
        `instance ${id}: would get CPUs that its pinning leaves out; the policy (allowWidening) takes pinning as intended`,
      );
    }
  }
  return null;
}

/** The engine asks it too, of the policy that it was told; where that has no route to it, of its defaults. */
function gain({ policy, recommendation }: AdmissionInput): Refusal | null {
  const [least] = recommendation.predicted.interval;
  return least < policy.minGainRatio
    ? rejected(
        'limit',
        `it may bring as little as ${least.toFixed(3)} of what is waited; the policy (minGainRatio) wants at least ${policy.minGainRatio}`,
      )
    : null;
}

function telemetry({ recommendation, series, now }: AdmissionInput): Refusal | null {
  const id = recommendation.beneficiary.id;
  const newest = series.newest(id);
  if (!newest) {
    return rejected(
      'no-telemetry',
      `beneficiary ${id}: two points of its headline series are wanted, from which its wait before the action follows; got fewer`,
    );
  }
  const limit = Math.max(staleSeconds, 3 * newest.intervalSeconds);
  const age = now - newest.time;
  // Points of the future are from before the clock was set back: nothing newer is taken until it has caught up with them.
  return Math.abs(age) > limit
    ? rejected(
        'stale-telemetry',
        `beneficiary ${id}: its newest point is ${age.toFixed(1)} s old; wanted at most ${limit.toFixed(1)} s`,
      )
    : null;
}

/** Taking from others needs contention that the host itself measured; its own CPUs back need some wait only. */
function contention({ policy, recommendation, plan, series }: AdmissionInput): Refusal | null {
  const id = recommendation.beneficiary.id;
  const time = series.newest(id)?.time ?? 0;
  const own =
    recommendation.moves.every(move => move.instance.id === id) &&
    plan.widened.length === recommendation.moves.length;
  const spans = contentionSpansSeconds.map(seconds =>
    coresOf(series.samples(id, time - seconds - 0.05, time, 0.1)),
  );
  // Points may be further apart than the longest span: then the last two are what there is.
  spans.push(
    coresOf(series.samples(id, time - (series.newest(id)?.intervalSeconds ?? 0) - 0.001, time, 0)),
  );
  const { waitCores, waitRatio } = policy.contention;
  const contended = spans.some(({ run, wait }) =>
    own ? wait > 0 : wait >= waitCores && wait >= waitRatio * (run + wait),
  );
  if (contended) return null;
  const worst = spans.reduce((a, b) => (b.wait > a.wait ? b : a), { run: 0, wait: 0 });
  return rejected(
    'not-contended',
    `beneficiary ${id}: waits ${worst.wait.toFixed(3)} cores beside ${worst.run.toFixed(3)} run; wanted at least ${waitCores} cores and ${waitRatio} of run + wait`,
  );
}

function changeWindow({ policy, now }: AdmissionInput): Refusal | null {
  if (policy.changeWindows.length === 0) return null;
  return policy.changeWindows.some(window => isWithin(window, new Date(now * 1000)))
    ? null
    : deferred('window', 'now is outside every change window of the policy');
}

/** A window that ends before it begins runs past midnight, and belongs to the day on which it began. */
function isWithin(window: Policy['changeWindows'][number], at: Date): boolean {
  const minutes = (text: string) => Number(text.slice(0, 2)) * 60 + Number(text.slice(3));
  const now = at.getHours() * 60 + at.getMinutes();
  const [from, to] = [minutes(window.from), minutes(window.to)];
  const today = window.days.includes(at.getDay());
  const yesterday = window.days.includes((at.getDay() + 6) % 7);
  if (to > from) return today && now >= from && now < to;
  return (today && now >= from) || (yesterday && now < to);
}

function overlap({ recommendation, plan, running, held }: AdmissionInput): Refusal | null {
  const moved = recommendation.moves.map(move => move.instance.id);
  for (const action of running) {
    const theirs = new Set(action.moves.map(move => move.instance.id));
    const both = moved.find(id => theirs.has(id));
    if (both !== undefined)
      return deferred('overlap', `instance ${both}: action ${action.id} holds it already`);
    // Two causes at once could not be told apart by what the beneficiary waits.
    if (action.beneficiary?.id === recommendation.beneficiary.id) {
      return deferred(
        'overlap',
        `beneficiary ${recommendation.beneficiary.id}: action ${action.id} runs for it already`,
      );
    }
  }
  // A thread may have come from another instance, and an action that is over may wait to give back: ours would end by giving back theirs.
  const taken = plan.entries.find(({ resource }) => held.has(resource));
  return taken
    ? deferred('overlap', `${taken.resource}: action ${held.get(taken.resource)} holds it already`)
    : null;
}

function inFlight({ policy, running }: AdmissionInput): Refusal | null {
  const most = policy.limits.actionsInFlight;
  return running.length >= most
    ? deferred('limit', `${running.length} actions hold something; the policy allows ${most}`)
    : null;
}

function rest({ policy, recommendation, history, now }: AdmissionInput): Refusal | null {
  for (const id of involved(recommendation)) {
    const resting = history.restsUntil(id, policy, now);
    if (resting) {
      return deferred(
        resting.why,
        `instance ${id}: ${resting.rollbacks} roll-backs in a row; left alone for ${Math.ceil(resting.until - now)} s more`,
      );
    }
  }
  return null;
}

function perHour({ policy, recommendation, history, now }: AdmissionInput): Refusal | null {
  const most = policy.limits.actionsPerInstancePerHour;
  const full = involved(recommendation).find(id => history.admittedLastHour(id, now) >= most);
  return full === undefined
    ? null
    : deferred(
        'limit',
        `instance ${full}: had ${most} actions within an hour, which the policy allows`,
      );
}

function touchedShare({
  policy,
  recommendation,
  running,
  series,
  now,
}: AdmissionInput): Refusal | null {
  const moved = new Set(
    [recommendation, ...running].flatMap(each => each.moves.map(move => move.instance.id)),
  );
  const instances = series.instances(now - 120);
  // Those below a moved cgroup are moved with it.
  const touched = new Set([
    ...moved,
    ...instances.filter(id => [...moved].some(above => id.startsWith(`${above}/`))),
  ]);
  const known = new Set([...instances, ...touched]).size;
  // One may always be moved: on a host of one or two instances no share would allow any.
  const most = Math.max(1, Math.floor(policy.limits.maxTouchedRatio * known));
  return touched.size > most
    ? deferred(
        'limit',
        `${touched.size} of ${known} instances would be moved at the same time; the policy allows ${most}`,
      )
    : null;
}

function rejected(code: ActionReason['code'], message: string): Refusal {
  return { state: 'rejected', reason: problem(code, message) };
}

function deferred(code: ActionReason['code'], message: string): Refusal {
  return { state: 'deferred', reason: problem(code, message) };
}
