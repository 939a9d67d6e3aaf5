import { type Action, type ActionReason, parkedSeconds } from '../contract/action.ts';
import { ConfigError } from '../contract/errors.ts';
import type { Mode } from '../contract/policy.ts';
import type { Recommendation, Withdrawal } from '../contract/recommendation.ts';
import { problem } from './actuators/cgroup-file.ts';
import { admit } from './admission.ts';
import { affected } from './affected.ts';
import type { Executor, ExecutorParts } from './executor.ts';
import { involved } from './history.ts';
import { chooseMechanism } from './mechanisms/choose.ts';
import type { Permission } from './permission.ts';
import { planOf } from './plan.ts';
import { movesKey, type ParkedAction } from './running.ts';

/** How long a yes covers renewals, in seconds. */
const approvalSeconds = 3600;
/** Parked at the same time; more are refused. */
const mostParked = 100;

export type Reception = ReturnType<typeof createReception>;

/** From a verified recommendation to an action: replay, mode, validity, guard, a person's yes. Each refusal is recorded. */
export function createReception(
  parts: ExecutorParts & { readonly permission: Permission; readonly executor: Executor },
) {
  const { kernel, journal, series, history, log, clock, config, say } = parts;
  const { permission, executor } = parts;
  const parked = new Map<string, ParkedAction>();
  let closed = false;

  const reject = (action: Action, reason: ActionReason, change: Partial<Action> = {}): Action =>
    log.to(action, 'rejected', reason, change);

  /** `approved`: a person said yes; the recommendation's own expiry counts no more then. */
  const proceed = (
    action: Action,
    recommendation: Recommendation,
    approved: boolean,
    stamp: Mode | undefined,
  ): Action => {
    const mode = permission.modeFor(concerned(parts, recommendation), stamp);
    const now = clock.unixSeconds();
    const started = clock.monotonicSeconds();
    if (mode === 'off' || mode === 'observe') return reject(action, modeReason(mode), { mode });
    if (!permission.alive()) return reject(action, silence(permission), { mode });
    const plan = planOf(kernel, recommendation);
    const planSeconds = clock.monotonicSeconds() - started;
    const { chosen, answers: mechanisms } = chooseMechanism(plan, recommendation.mechanism);
    if (chosen === null) {
      const code = recommendation.mechanism === 'direct' ? plan.problems[0]?.code : undefined;
      const message = mechanisms.map(each => `${each.mechanism}: ${each.answer}`).join('; ');
      say('warn', `action ${action.id}: no mechanism can carry it out: ${message}`);
      return reject(action, problem(code ?? 'no-provider', message), { mode, mechanisms });
    }
    const validated =
      action.state === 'received'
        ? log.to(action, 'validated', null, { mode, mechanism: chosen, mechanisms })
        : { ...action, mode, mechanism: chosen, mechanisms };
    const active = executor.running().map(held => held.action);
    const refusal = admit({
      ...{ policy: config.policy, recommendation, plan, running: active, history, series, now },
      ...{ affected: affected(kernel, recommendation), held: journal.openResources() },
    });
    if (refusal) return log.to(validated, refusal.state, refusal.reason);
    if (mode === 'approve' && !approved) return park(validated, recommendation);
    return executor.run(log.to(validated, 'admitted', null), recommendation, plan, planSeconds);
  };

  const park = (action: Action, recommendation: Recommendation): Action => {
    const key = movesKey(recommendation);
    const twin = [...parked.values()].find(each => movesKey(each.recommendation) === key);
    if (twin) {
      const message = `action ${twin.action.id} waits for a yes to the same moves`;
      return log.to(action, 'deferred', problem('approval-needed', message));
    }
    if (parked.size >= mostParked) {
      const message = `${parked.size} actions wait for a yes already`;
      return log.to(action, 'deferred', problem('limit', message));
    }
    const message = `waits ${parkedSeconds} s for "sculpt approve ${action.id}"`;
    const waiting = log.to(action, 'parked', problem('approval-needed', message));
    const until = clock.monotonicSeconds() + parkedSeconds;
    parked.set(action.id, { action: waiting, recommendation, until });
    return waiting;
  };

  const renew = (recommendation: Recommendation, stamp: Mode): Action => {
    const held = executor.get(recommendation.renews ?? '');
    const mode = permission.modeFor(concerned(parts, recommendation), stamp);
    const begin = () => log.begin(recommendation, mode);
    if (!held) {
      const message = `renews: no running action ${recommendation.renews}`;
      return reject(begin(), problem('not-found', message));
    }
    if (movesKey(held.recommendation) !== movesKey(recommendation)) {
      const message = `renews action ${held.action.id}: its moves differ; wanted the same`;
      return reject(begin(), problem('malformed', message));
    }
    if (mode === 'off' || mode === 'observe') return reject(begin(), modeReason(mode));
    const yes = journal.approvedAt(movesKey(recommendation));
    if (mode === 'approve' && (yes === null || clock.unixSeconds() - yes > approvalSeconds)) {
      return park(begin(), recommendation);
    }
    return executor.extend(held, recommendation);
  };

  return {
    parked: (): ParkedAction[] => [...parked.values()],

    /** `stamp`: the mode that the collector put on this record. */
    receive: (recommendation: Recommendation, stamp: Mode): void => {
      const wrong = closed
        ? problem('shutdown', 'the sculptor ends')
        : staleness(parts, recommendation);
      if (wrong) {
        reject(log.begin(recommendation, permission.mode()), wrong);
      } else if (recommendation.renews !== undefined) {
        renew(recommendation, stamp);
      } else {
        const mode = permission.modeFor(concerned(parts, recommendation), stamp);
        proceed(log.begin(recommendation, mode), recommendation, false, stamp);
      }
    },

    /** What could not be read, was not signed or was meant for another host. */
    refuse: (
      reason: ActionReason,
      recommendation: Recommendation | null,
      knownId?: string,
    ): void => {
      reject(log.begin(recommendation, permission.mode(), knownId), reason);
    },

    withdraw: ({ actionId, reason }: Withdrawal): void => {
      const held = executor.get(actionId);
      const waiting = parked.get(actionId);
      parked.delete(actionId);
      if (held) executor.finish(held, 'restored', problem('withdrawn', reason));
      else if (waiting) reject(waiting.action, problem('withdrawn', reason));
      else say('info', `withdrawal of action ${actionId}: holds nothing (any more)`);
    },

    /**
     * A person's yes: validated again against the present.
     * @throws ConfigError CONFIG_REFUSED when nothing of that id waits
     */
    approve: (id: string): void => {
      const waiting = parked.get(id);
      if (!waiting) {
        throw new ConfigError('CONFIG_REFUSED', `action ${id}: does not wait for a yes`, { id });
      }
      const { action, recommendation } = waiting;
      // Before it is dropped: a yes that cannot be written down can be said again.
      journal.saveApproval(movesKey(recommendation), clock.unixSeconds());
      parked.delete(id);
      const held = recommendation.renews === undefined ? null : executor.get(recommendation.renews);
      if (held) {
        executor.extend(held, recommendation);
        reject(action, problem('renewed', `action ${held.action.id} goes on`));
      } else if (recommendation.renews !== undefined) {
        reject(action, problem('not-found', `action ${recommendation.renews} runs no more`));
      } else {
        proceed(action, recommendation, true, undefined);
      }
    },

    /** Drops what waited too long, and what would renew an action that is over. */
    tick: (): void => {
      for (const [id, { action, recommendation, until }] of parked) {
        const { renews } = recommendation;
        const isOver = renews !== undefined && executor.get(renews) === undefined;
        if (!isOver && clock.monotonicSeconds() < until) continue;
        parked.delete(id);
        reject(
          action,
          isOver
            ? problem('not-found', `action ${renews} runs no more`)
            : problem('approval-expired', `nobody said yes within ${parkedSeconds} s`),
        );
      }
    },

    /** Refuses what still waits, and what comes after: the sculptor ends, and nobody would give it back. */
    close: (): void => {
      closed = true;
      for (const { action } of parked.values())
        reject(action, problem('shutdown', 'the sculptor ended before anybody said yes'));
      parked.clear();
    },
  };
}

type StalenessParts = Pick<ExecutorParts, 'clock' | 'journal'> & { permission: Permission };

/** Expired, delivered twice, or signed by an engine whose life is over. */
function staleness(parts: StalenessParts, recommendation: Recommendation): ActionReason | null {
  const { id, created, expires } = recommendation;
  const now = parts.clock.unixSeconds();
  if (expires <= now) {
    return problem('expired', `recommendation ${id}: expired ${(now - expires).toFixed(1)} s ago`);
  }
  if (!parts.journal.see(id, expires)) {
    return problem('duplicate', `recommendation ${id}: was delivered before`);
  }
  const engineStarted = parts.permission.engineStarted();
  return engineStarted !== null && created < engineStarted
    ? problem(
        'replayed',
        `recommendation ${id}: created ${(engineStarted - created).toFixed(1)} s before the present engine started`,
      )
    : null;
}

/** Whose policy counts: the beneficiary, what is moved, and what is moved with it. */
function concerned({ kernel }: ExecutorParts, recommendation: Recommendation): string[] {
  return [...involved(recommendation), ...affected(kernel, recommendation)];
}

function modeReason(mode: Mode): ActionReason {
  return problem(
    'mode',
    `the mode is ${mode} (the strictest of stamp, heartbeat, ceiling and instance policies); wanted approve or enforce`,
  );
}

function silence(permission: Permission): ActionReason {
  return problem(
    'no-heartbeat',
    `no heartbeat of an engine for ${permission.heartbeatAge().toFixed(1)} s: no new actions`,
  );
}
