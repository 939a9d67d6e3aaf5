import { setTimeout as sleep } from 'node:timers/promises';
import { failure, untilGivenBack, untilKept } from './decision.ts';
import type { Loop } from './loop.ts';
import type { Decision } from './result.ts';
import type { StagedInstance } from './stage.ts';
import type { SettingsWatch } from './watch.ts';

/** One line of progress. */
export type Tell = (line: string) => void;

export type Acted = { readonly decision: Decision; readonly onsetToActionSeconds: number };

/** How long an action may take to be applied, and then to be kept. */
const applySeconds = 30;
const keepSeconds = 40;
/** Long enough for the held instances to be calm, and for the engine to speak again after "not in this mode" (5 s). */
const calmSeconds = 4.5;

/**
 * Makes an onset of contention at a known instant, with permission to act, and waits until an action is kept: the noisy
 * instances are held (SIGSTOP), the stamp goes to enforce, and they run on.
 * @throws SculptorError DEMO_FAILED
 */
export async function actOnOnset(
  loop: Loop,
  scene: string,
  tell: Tell,
  given: { readonly noisy: readonly StagedInstance[]; readonly watch: SettingsWatch },
): Promise<Acted> {
  tell(`${scene}: the neighbours are held, the mode goes to enforce, and they run on`);
  signalAll(given.noisy, 'SIGSTOP');
  await permitWhileCalm(loop, scene, tell, given.watch);
  const [onset, since] = [performance.now(), Date.now() / 1000];
  signalAll(given.noisy, 'SIGCONT');
  const applied = await given.watch.firstChange(applySeconds);
  if (applied === null) throw failure(`${scene}: nothing was applied within ${applySeconds} s`);
  const onsetToActionSeconds = (applied - onset) / 1000;
  tell(`${scene}: acted after ${onsetToActionSeconds.toFixed(2)} s: ${given.watch.changed()[0]}`);
  const decision = await untilKept(loop, since, keepSeconds);
  tell(`${scene}: kept: ${decision.action.reason?.message ?? 'measured, and better'}`);
  return { decision, onsetToActionSeconds };
}

const mostAttempts = 3;
const giveBackSeconds = 8;

/**
 * The stamp goes to enforce while nothing contends. What the rest of the machine does may still make it act: that is given
 * back and tried again, since it is not the onset that is to be shown.
 */
async function permitWhileCalm(
  loop: Loop,
  scene: string,
  tell: Tell,
  watch: SettingsWatch,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    await sleep(calmSeconds * 1000);
    await loop.stamp('enforce');
    await sleep(1000);
    if (watch.changed().length === 0 || attempt === mostAttempts) return;
    tell(`${scene}: something else on this machine made it act before the onset: once more`);
    await loop.stamp('observe');
    await untilGivenBack(watch, giveBackSeconds);
  }
}

export function signalAll(
  instances: readonly StagedInstance[],
  signal: 'SIGSTOP' | 'SIGCONT',
): void {
  for (const { processes } of instances) for (const child of processes) child.kill(signal);
}
