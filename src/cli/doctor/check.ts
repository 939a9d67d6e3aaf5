/** What the doctor found out about one thing the product stands on, or could use. */
export type Check = {
  readonly name: string;
  /** `unknown`: it is there, and whether it works was not tried. */
  readonly state: 'works' | 'missing' | 'unknown';
  /** What was found, for a person. */
  readonly found: string;
  /** What does not work without it; null when nothing is lost. */
  readonly lost: string | null;
  /** How to get it; null when it is there, or cannot be got. */
  readonly how: string | null;
  /**
   * Whether the main job (observe, recommend, sculpt on this host) needs it; without the addon, where the configuration does
   * without it, that is to observe.
   */
  readonly needed: boolean;
};

/** Lost where the scheduler cannot be asked. */
export const noScheduler =
  'what instances run and wait, and so any recommendation for this host. What needs no BPF program, or one that loads, is told still; an engine for other hosts runs.';

type Present = { readonly found: string };
type Absent = { readonly found: string; readonly lost: string; readonly how: string | null };

export function works(name: string, needed: boolean, { found }: Present): Check {
  return { name, state: 'works', found, lost: null, how: null, needed };
}

export function missing(name: string, needed: boolean, absent: Absent): Check {
  return { name, state: 'missing', needed, ...absent };
}

export function unknown(name: string, { found }: Present): Check {
  return { name, state: 'unknown', found, lost: null, how: null, needed: false };
}

/** Whether everything that the main job needs works. */
export function canRun(checks: readonly Check[]): boolean {
  return checks.every(check => !check.needed || check.state === 'works');
}
