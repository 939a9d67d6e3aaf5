import type { Action, ActionReason, ActionState } from '../contract/action.ts';
import type { SculptorConfig } from '../contract/config.ts';
import { ActuationError, describeError } from '../contract/errors.ts';
import type { Clock, Say } from '../contract/ports.ts';
import type { Recommendation } from '../contract/recommendation.ts';
import type { ActionLog } from './action-log.ts';
import { problem } from './actuators/cgroup-file.ts';
import { type ActionTimings, allocationsOf, applyPlan, notOurs } from './apply.ts';
import type { HeadlineSeries } from './headline-series.ts';
import { type History, involved } from './history.ts';
import type { Journal } from './journal.ts';
import type { Kernel } from './kernel.ts';
import { findNeighbours } from './neighbours.ts';
import type { Plan } from './plan.ts';
import { restoreOpen } from './restore.ts';
import type { RunningAction } from './running.ts';
import { type UndoReport, undoEntries } from './undo.ts';
import { startWatch } from './verify.ts';

export type ExecutorParts = {
  readonly config: SculptorConfig;
  readonly kernel: Kernel;
  readonly journal: Journal;
  readonly series: HeadlineSeries;
  readonly history: History;
  readonly log: ActionLog;
  readonly clock: Clock;
  readonly say: Say;
  readonly timings?: (timings: ActionTimings) => void;
};

/** The only path to the actuators: sets, watches, keeps, gives back. Everything is synchronous, so nothing comes between. */
export type Executor = ReturnType<typeof createExecutor>;

/** How often a running action is judged, and its values are read back, in seconds. */
const judgeSeconds = 0.5;
const readBackSeconds = 5;
/** What could not be given back, or not be closed in the journal, is tried again so often. */
const retrySeconds = 10;

export function createExecutor(parts: ExecutorParts) {
  const { config, kernel, journal, log, clock, say, history } = parts;
  const running = new Map<string, RunningAction>();
  let retryAt = clock.monotonicSeconds() + retrySeconds;
  const isLeft = () => leftOf(journal, running) > 0;
  // Also of a former life: what a start could not give back.
  let leftovers = isLeft();
  const noteLeftovers = (id: string): void => {
    if (journal.openEntriesOf(id).length === 0) return;
    leftovers = true;
    retryAt = clock.monotonicSeconds() + retrySeconds;
  };

  const finish = (held: RunningAction, state: ActionState, reason: ActionReason): void => {
    running.delete(held.action.id);
    const report = giveBack(parts, held.action.id);
    noteLeftovers(held.action.id);
    const ended = log.to(held.action, state, withReport(reason, report), {
      allocations: allocationsOf(kernel, held.entries),
    });
    journal.saveAction(ended);
    if (state === 'rolled-back') history.rolledBack(involved(ended), ended.at);
  };

  return {
    running: (): RunningAction[] => [...running.values()],
    /** Actions that are over, and of which something could not be given back yet. */
    leftovers: (): number => (leftovers ? leftOf(journal, running) : 0),
    get: (id: string): RunningAction | undefined => running.get(id),

    /** Carries an admitted action out: journal, apply, read back; undone in reverse when any of it fails. */
    run: (
      admitted: Action,
      recommendation: Recommendation,
      plan: Plan,
      planSeconds: number,
    ): Action => {
      const lease = Math.min(recommendation.leaseSeconds, config.policy.limits.maxLeaseSeconds);
      history.admitted(involved(admitted), clock.unixSeconds());
      const snapshotted = log.to(admitted, 'snapshotted', null, {
        allocations: allocationsOf(null, plan.entries),
        leaseEnds: clock.unixSeconds() + lease,
      });
      try {
        const { entries, timings } = applyPlan(kernel, journal, clock, snapshotted, plan);
        parts.timings?.({ action: admitted.id, planSeconds, ...timings });
        const now = clock.monotonicSeconds();
        const allocations = allocationsOf(kernel, entries);
        const applied = log.to(snapshotted, 'applied', null, { allocations });
        const action = log.to(applied, 'observing', null);
        journal.saveAction(action);
        const watch = watchOf(parts, recommendation, entries);
        const [lookAt, readBackAt] = [now + judgeSeconds, now + readBackSeconds];
        const leaseEndsAt = now + lease;
        running.set(action.id, {
          ...{ action, recommendation, entries, watch, appliedAt: now },
          ...{ leaseEndsAt, lookAt, readBackAt },
        });
        return action;
      } catch (error) {
        try {
          return fail(parts, snapshotted, error);
        } finally {
          noteLeftovers(admitted.id);
        }
      }
    },

    extend: (held: RunningAction, recommendation: Recommendation): Action => {
      const lease = Math.min(recommendation.leaseSeconds, config.policy.limits.maxLeaseSeconds);
      held.leaseEndsAt = clock.monotonicSeconds() + lease;
      held.action = log.to(
        held.action,
        held.action.state,
        problem('renewed', `recommendation ${recommendation.id} renews its lease for ${lease} s`),
        { leaseEnds: clock.unixSeconds() + lease },
      );
      journal.saveAction(held.action);
      return held.action;
    },

    finish,
    finishAll: (state: ActionState, reason: ActionReason): void => {
      for (const held of [...running.values()].reverse()) {
        try {
          finish(held, state, reason);
        } catch (error) {
          // One that cannot be recorded must not keep the others from being given back.
          say('error', `action ${held.action.id}: ${describeError(error)}`);
        }
      }
    },

    /** Leases, verdicts and read-back; to be called every 200 ms or so. @throws the first failure, after all were looked at */
    tick: (): void => {
      const now = clock.monotonicSeconds();
      const failures: unknown[] = [];
      for (const held of [...running.values()]) {
        try {
          lookAt(parts, held, now, finish);
        } catch (error) {
          // One that fails, now or each time, must not keep the leases of the others from ending.
          failures.push(error);
        }
      }
      if (leftovers && now >= retryAt) {
        try {
          retry(parts, new Set(running.keys()));
        } finally {
          // It may wait long for a systemd that does not answer, and everything else with it: a tenth of the time at most.
          const end = clock.monotonicSeconds();
          retryAt = end + Math.max(retrySeconds, 9 * (end - now));
        }
        leftovers = isLeft();
        if (!leftovers) say('info', 'what could not be given back before is given back');
      }
      if (failures.length > 0) throw failures[0];
    },
  };
}

type Finish = (held: RunningAction, state: ActionState, reason: ActionReason) => void;

function lookAt(parts: ExecutorParts, held: RunningAction, now: number, finish: Finish): void {
  if (now >= held.leaseEndsAt) {
    finish(held, 'restored', problem('lease-ended', 'its lease ended and was not renewed'));
    return;
  }
  if (now >= held.readBackAt) {
    held.readBackAt = now + readBackSeconds;
    if (!stillOurs(parts.kernel, held, finish)) return;
  }
  if (now >= held.lookAt) {
    held.lookAt = now + judgeSeconds;
    judge(parts, held, finish);
  }
}

function giveBack({ kernel, journal, say }: ExecutorParts, id: string): UndoReport {
  const report = undoEntries(kernel, journal, journal.openEntriesOf(id), journal.entriesOf(id));
  for (const message of report.messages) say(report.failed > 0 ? 'error' : 'info', message);
  return report;
}

function leftOf(journal: Journal, running: ReadonlyMap<string, unknown>): number {
  return journal.openActions().filter(each => each.entries.length > 0 && !running.has(each.id))
    .length;
}

/** Gives back what is open of actions that are over; no other could take it meanwhile. */
function retry(
  { kernel, journal, log, clock, say }: ExecutorParts,
  running: ReadonlySet<string>,
): void {
  const reason = problem('crash-recovery', 'a former life of the sculptor left it open');
  const end = { reason, at: clock.unixSeconds() };
  for (const action of restoreOpen(kernel, journal, say, end, running).ended) log.put(action);
}

function withReport(reason: ActionReason, report: UndoReport): ActionReason {
  const parts = [
    report.yielded > 0 ? `${report.yielded} values were changed by others and left as found` : '',
    report.gone > 0 ? `${report.gone} had ended` : '',
    report.failed > 0 ? `${report.failed} could not be given back and are tried again` : '',
  ].filter(part => part !== '');
  return parts.length === 0
    ? reason
    : { code: reason.code, message: `${reason.message}; ${parts.join(', ')}` };
}

/** Nothing was set yet: `failed`. Something was: everything is undone, and it counts as a roll-back. */
function fail(parts: ExecutorParts, snapshotted: Action, error: unknown): Action {
  const { journal, log, history, say } = parts;
  const touched = journal.openEntriesOf(snapshotted.id).length > 0;
  const code =
    error instanceof ActuationError && error.code === 'ACTUATION_READBACK'
      ? 'readback'
      : 'apply-failed';
  const reason = problem(code, describeError(error));
  say('error', `action ${snapshotted.id}: ${reason.message}`);
  if (!touched) return log.to(snapshotted, 'failed', reason);
  const report = giveBack(parts, snapshotted.id);
  const ended = log.to(snapshotted, 'rolled-back', withReport(reason, report));
  journal.saveAction(ended);
  history.rolledBack(involved(ended), ended.at);
  return ended;
}

function watchOf(
  { kernel, config, series, clock }: ExecutorParts,
  recommendation: Recommendation,
  entries: RunningAction['entries'],
) {
  const applied = clock.unixSeconds();
  const { neighbours, controls } = findNeighbours(
    kernel,
    config.policy,
    recommendation,
    entries,
    series.instances(applied - 30),
  );
  return startWatch({
    series,
    beneficiary: recommendation.beneficiary.id,
    neighbours,
    controls,
    applied,
    verify: config.verify,
    policy: config.policy,
  });
}

/** Something else changed what we set: drop the action, give back the rest, do not fight. */
function stillOurs(kernel: Kernel, held: RunningAction, finish: Finish): boolean {
  const [first] = notOurs(kernel, held.entries);
  if (!first) return true;
  const { resource, wanted } = first.entry;
  finish(
    held,
    'yielded',
    problem('changed-by-others', `${resource}: is "${first.held}", we wrote "${wanted}"`),
  );
  return false;
}

function judge(parts: ExecutorParts, held: RunningAction, finish: Finish): void {
  const { clock, config, log, journal, history } = parts;
  const verdict = held.watch.judge(clock.unixSeconds());
  const before = held.action;
  if (verdict.realised) held.action = { ...before, realised: verdict.realised };
  if (verdict.is === 'worse') {
    finish(held, 'rolled-back', problem('worse', verdict.message));
  } else if (before.state === 'observing' && verdict.is === 'improved') {
    held.action = log.to(held.action, 'kept', problem('improved', verdict.message));
    journal.saveAction(held.action);
    history.kept(involved(held.action));
  } else if (
    before.state === 'observing' &&
    clock.monotonicSeconds() - held.appliedAt >= config.verify.maxSeconds
  ) {
    finish(held, 'rolled-back', problem('neutral', `no gain that can be told: ${verdict.message}`));
  }
}
