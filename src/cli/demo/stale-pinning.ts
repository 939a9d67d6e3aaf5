import { setTimeout as sleep } from 'node:timers/promises';
import { actOnOnset, type Tell } from './act.ts';
import { untilGivenBack } from './decision.ts';
import type { Loop } from './loop.ts';
import { coresOver } from './measure.ts';
import type { Phase, PhaseName, SceneResult } from './result.ts';
import type { Stage, StagedInstance } from './stage.ts';
import { differences, readKernelState } from './state.ts';
import { watchSettings } from './watch.ts';

const phaseSeconds = 3;
const giveBackSeconds = 8;

/**
 * Scene 2: two busy instances confined to CPU 0, long after there was a reason for it, while CPU 1 idles.
 * @throws SculptorError DEMO_FAILED
 */
export async function runStalePinning(given: {
  readonly stage: Stage;
  readonly loop: Loop;
  readonly tell: Tell;
}): Promise<SceneResult> {
  const { stage, loop, tell } = given;
  const staged: StagedInstance[] = [];
  const add = (name: string) => {
    const instance = stage.make(name, { cpus: '0' });
    stage.run(instance, 'spin');
    staged.push(instance);
    return instance;
  };
  const measure = async (name: PhaseName): Promise<Phase> => {
    tell(`stale pinning: ${name}, measured for ${phaseSeconds} s`);
    const [first, ...second] = staged;
    const groups = { first: first ? [first] : [], second };
    return { name, lateness: null, cores: await coresOver(phaseSeconds, groups) };
  };
  add('pinned1');
  await stage.ready();
  const alone = await measure('alone');
  const second = add('pinned2');
  await stage.ready();
  const before = readKernelState(staged);
  await sleep(1000);
  const contended = await measure('contended');
  const watch = watchSettings(staged);
  const acted = await actOnOnset(loop, 'stale pinning', tell, { noisy: [second], watch });
  const sculpted = await measure('sculpted');
  await loop.stamp('observe');
  await untilGivenBack(watch, giveBackSeconds);
  await sleep(1000);
  const restored = await measure('restored');
  return {
    name: 'stale-pinning',
    title: 'Stale pinning: two busy instances on one CPU while another idles',
    staged:
      'Two instances of one spinning thread each, both confined to CPU 0 by their cpusets, while CPU 1 has nothing to do. The policy lets them be widened.',
    phases: [alone, contended, sculpted, restored],
    ...acted,
    differences: differences(before, readKernelState(staged)),
    settingsCompared: before.size,
  };
}
