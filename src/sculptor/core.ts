import type { KeyObject } from 'node:crypto';
import type { Action } from '../contract/action.ts';
import type { SculptorConfig } from '../contract/config.ts';
import type { OutgoingEvent } from '../contract/events.ts';
import type { Mode, Policy } from '../contract/policy.ts';
import type { Clock, Say } from '../contract/ports.ts';
import { plainEvent } from '../otlp/plain-event.ts';
import { actionSentence, createActionLog } from './action-log.ts';
import { problem } from './actuators/cgroup-file.ts';
import type { ActionTimings } from './apply.ts';
import { createExecutor, type Executor } from './executor.ts';
import { createHeadlineSeries, keptSeconds } from './headline-series.ts';
import { createHistory } from './history.ts';
import { createIntake } from './intake.ts';
import { createPermission, type Permission } from './permission.ts';
import { createReception } from './reception.ts';
import { restoreOpen } from './restore.ts';
import type { Store } from './store.ts';

export type CoreOptions = {
  readonly config: SculptorConfig;
  readonly hostId: string;
  readonly trustedKeys: readonly KeyObject[];
  readonly clock: Clock;
  readonly say: Say;
  readonly timings?: (timings: ActionTimings) => void;
};

/** Actions of a former life that are looked at: for the limits, and for people. */
const pastActions = 500;

/** Everything but sockets and timers. Gives back what a former life left open before it takes anything in. */
export function createCore(
  options: CoreOptions,
  { journal, kernel }: Store,
  emitEvent: (event: OutgoingEvent) => void,
) {
  const { config, hostId, clock, say, timings } = options;
  const emit = deferred(emitEvent);
  const emitAction = (action: Action) =>
    emit(() => plainEvent('sculptor.action', action, actionSentence(action)));
  const recovered = restoreOpen(kernel, journal, say, {
    reason: problem('crash-recovery', 'a former life of the sculptor left it open'),
    at: clock.unixSeconds(),
  });
  for (const action of recovered.ended) emitAction(action);

  const past = journal.recentActions(pastActions);
  const series = createHeadlineSeries();
  const history = createHistory(past);
  const log = createActionLog({ hostId, clock, emit: emitAction, past });
  const permission = createPermission({ config, journal, clock });
  const parts = { config, kernel, journal, series, history, log, clock, say };
  const executor = createExecutor({ ...parts, ...(timings ? { timings } : {}) });
  const reception = createReception({ ...parts, permission, executor });
  const obeyMode = () => restoreWhenFallen(config, permission, executor);
  const intake = createIntake({
    ...{ hostId, trustedKeys: options.trustedKeys, series, permission, reception, say },
    heard: () => {
      obeyMode();
      tellModeChange();
    },
  });
  const policy = (): Policy => ({ ...config.policy, ceiling: permission.ceiling() });
  const tellPolicy = () =>
    emit(() =>
      plainEvent(
        'sculptor.policy',
        { hostId, at: clock.unixSeconds(), policy: policy(), mode: permission.mode() },
        `the sculptor's policy: ceiling ${permission.ceiling()}, mode now ${permission.mode()}`,
      ),
    );
  let toldMode = permission.mode();
  /** At once: the engine waits after a refusal by mode, and need not any longer. */
  const tellModeChange = () => {
    if (permission.mode() === toldMode) return;
    toldMode = permission.mode();
    tellPolicy();
  };
  return {
    ...{ series, log, permission, executor, reception, intake, obeyMode, policy, tellPolicy },
    setCeiling: (mode: Mode): void => {
      try {
        permission.setCeiling(mode);
      } finally {
        tellPolicy();
        obeyMode();
      }
    },
    /** Forgets what no rule looks at any more. */
    prune: (): void => {
      const now = clock.unixSeconds();
      journal.prune(now);
      history.prune(now);
      series.forget(now - keptSeconds);
    },
    /** Gives back everything, and refuses what waits. */
    end: (): void => {
      executor.finishAll('restored', problem('shutdown', 'the sculptor ends'));
      reception.close();
    },
  };
}

/** The dead-man switch, and a mode that fell: everything is given back. From `enforce` to `approve` running actions go on. */
function restoreWhenFallen(
  config: SculptorConfig,
  permission: Permission,
  executor: Executor,
): void {
  if (executor.running().length === 0) return;
  const mode = permission.mode();
  if (mode === 'enforce' || mode === 'approve') return;
  const silent = permission.heartbeatAge() > config.modeLeaseSeconds;
  executor.finishAll(
    'restored',
    silent
      ? problem('no-heartbeat', `no heartbeat for ${config.modeLeaseSeconds} s`)
      : problem('mode', `the mode fell to ${mode}`),
  );
}

/** Events are made and sent after the synchronous path that caused them: encoding a thousand allocations is no part of acting. */
function deferred(emit: (event: OutgoingEvent) => void): (make: () => OutgoingEvent) => void {
  let queue: (() => OutgoingEvent)[] = [];
  return make => {
    if (queue.length === 0) {
      queueMicrotask(() => {
        const makes = queue;
        queue = [];
        for (const each of makes) emit(each());
      });
    }
    queue.push(make);
  };
}
