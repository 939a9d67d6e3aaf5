import type { Action } from '../../contract/action.ts';
import type { Recommendation } from '../../contract/recommendation.ts';
import type { Lateness } from './measure.ts';

export const phaseNames = ['alone', 'contended', 'sculpted', 'restored'] as const;
export type PhaseName = (typeof phaseNames)[number];

/** What was measured in one phase: lateness by the workload's own clock, and the cores that each group got. */
export type Phase = {
  readonly name: PhaseName;
  readonly lateness: Lateness | null;
  readonly cores: Readonly<Record<string, number>>;
};

/** The action that was kept, as the journal has it, and the recommendation that it executed. */
export type Decision = { readonly action: Action; readonly recommendation: Recommendation };

export type SceneResult = {
  readonly name: 'tenants' | 'stale-pinning';
  readonly title: string;
  /** What was staged, in a sentence or two. */
  readonly staged: string;
  readonly phases: readonly Phase[];
  readonly decision: Decision;
  /** From the onset of contention to the first changed kernel setting, as seen from outside. */
  readonly onsetToActionSeconds: number;
  /** What was not exactly as before when everything had been given back; empty: all was. */
  readonly differences: readonly string[];
  readonly settingsCompared: number;
};

/** The scene in which nothing is wrong. */
export type ControlResult = {
  readonly staged: string;
  readonly seconds: number;
  readonly lateness: Lateness;
  readonly cores: Readonly<Record<string, number>>;
  readonly recommendations: number;
  readonly actions: number;
  /** Why nothing was recommended, in the engine's words. */
  readonly verdict: string;
};

export type HostFacts = {
  readonly hostName: string;
  readonly kernel: string;
  readonly cpus: number;
  readonly cgroupVersion: 1 | 2;
};

export type DemoResult = {
  readonly createdAt: string;
  readonly seconds: number;
  readonly host: HostFacts;
  readonly control: ControlResult;
  readonly scenes: readonly SceneResult[];
  /** File of every lateness sample: phase, tab, microseconds. */
  readonly rawFile: string;
};

/** Whether it is what a demonstration must be: acted, nothing done without need, everything as it was. */
export function failuresOf(result: DemoResult): string[] {
  const { control, scenes } = result;
  const failures = scenes.flatMap(scene =>
    scene.differences.map(difference => `${scene.name}: not restored: ${difference}`),
  );
  if (control.actions > 0) failures.push(`control: ${control.actions} action(s), wanted none`);
  if (control.recommendations > 0)
    failures.push(`control: ${control.recommendations} recommendation(s), wanted none`);
  return failures;
}
