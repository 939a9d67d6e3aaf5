import type { SculptorConfig } from '../contract/config.ts';
import { describeError, SculptorError } from '../contract/errors.ts';
import { instancePolicyOf, type Mode, strictestMode } from '../contract/policy.ts';
import type { Clock } from '../contract/ports.ts';
import type { Heartbeat } from '../contract/recommendation.ts';
import type { HeartbeatOrder, Journal } from './journal.ts';

/** What may be done now: the stamp of the newest heartbeat as a lease, the ceiling, and each instance's policy. */
export type Permission = ReturnType<typeof createPermission>;

export function createPermission(options: {
  readonly config: Pick<SculptorConfig, 'policy' | 'heartbeatTimeoutSeconds' | 'modeLeaseSeconds'>;
  readonly journal: Pick<Journal, 'newestHeartbeat' | 'saveHeartbeat' | 'ceiling' | 'saveCeiling'>;
  readonly clock: Clock;
}) {
  const { config, journal, clock } = options;
  let newest = journal.newestHeartbeat();
  const configured = config.policy.ceiling;
  const set = journal.ceiling();
  // Another one is written there since: an `enforce` of last year must not outlive an `observe`, nor an `observe` end by that.
  let ceiling =
    set === null || set.configured === configured
      ? (set?.mode ?? configured)
      : strictestMode([set.mode, configured]);
  // Not what a former life heard: a start holds nothing until a heartbeat comes.
  let heard: { at: number; stamp: Mode } | null = null;
  const age = () =>
    heard === null ? Number.POSITIVE_INFINITY : clock.monotonicSeconds() - heard.at;
  const stamp = (): Mode =>
    heard !== null && age() <= config.modeLeaseSeconds ? heard.stamp : 'observe';
  /** Since an engine of this epoch was started the clock was set back: one that is started now is no older. */
  const isAhead = ({ epoch }: HeartbeatOrder): boolean =>
    epoch / 1000 > clock.unixSeconds() + config.modeLeaseSeconds;
  const isNext = (heartbeat: Heartbeat): boolean =>
    newest === null || isNewer(heartbeat, newest) || (isAhead(newest) && !isAhead(heartbeat));
  return {
    /** Takes a heartbeat that is newer than every one before, by (epoch, sequence); `stale`: recorded long ago and played again. */
    hear: (heartbeat: Heartbeat, stamped: Mode): 'taken' | 'older' | 'stale' => {
      if (!isNext(heartbeat)) return 'older';
      if (Math.abs(clock.unixSeconds() - heartbeat.created) > config.modeLeaseSeconds)
        return 'stale';
      newest = { epoch: heartbeat.epoch, sequence: heartbeat.sequence };
      const taken = { at: clock.monotonicSeconds(), stamp: stamped };
      // As with the ceiling. Another one is not taken where it cannot be written down: then everything is given back before long.
      if (stamped !== stamp() && strictestMode([stamped, stamp()]) === stamped) heard = taken;
      journal.saveHeartbeat(newest);
      heard = taken;
      return 'taken';
    },
    /** Whether new actions may start: a heartbeat came within the timeout. */
    alive: (): boolean => age() <= config.heartbeatTimeoutSeconds,
    /** Seconds since the newest heartbeat of this life; infinite before the first. */
    heartbeatAge: age,
    /** Start of the newest engine known, in seconds since the epoch; null before any, and where the clock was set back since. */
    engineStarted: (): number | null =>
      newest === null || isAhead(newest) ? null : newest.epoch / 1000,
    ceiling: (): Mode => ceiling,
    /** A stricter one holds at once, also where it cannot be written down: a full disk must keep nobody from stopping everything. */
    setCeiling: (mode: Mode): void => {
      ceiling = strictestMode([mode, ceiling]);
      try {
        journal.saveCeiling(mode, configured);
      } catch (cause) {
        const message = `the ceiling is ${ceiling} now, but ${mode} could not be written down, and a restart will not know of it: ${describeError(cause)}`;
        throw new SculptorError('JOURNAL', message, {}, cause);
      }
      ceiling = mode;
    },
    /** What holds for everything: stamp and ceiling. */
    mode: (): Mode => strictestMode([stamp(), ceiling]),
    /** What holds for instances together, and under one more stamp where a recommendation brings one. */
    modeFor: (instances: readonly string[], stamped?: Mode): Mode =>
      strictestMode([
        stamp(),
        ceiling,
        ...(stamped === undefined ? [] : [stamped]),
        ...instances.map(id => instancePolicyOf(config.policy, id)?.mode ?? 'enforce'),
      ]),
  };
}

function isNewer(a: HeartbeatOrder, b: HeartbeatOrder): boolean {
  return a.epoch > b.epoch || (a.epoch === b.epoch && a.sequence > b.sequence);
}
