/**
 * The main job on the kernel it is started on: the real loop (`sculpt up`) beside staged instances; prints one JSON object
 * (`MainJob`). It asserts nothing: the test outside does.
 */
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Loop } from '../../../src/cli/demo/loop.ts';
import { differences, readKernelState } from '../../../src/cli/demo/state.ts';
import { watchSettings } from '../../../src/cli/demo/watch.ts';
import type { Action } from '../../../src/contract/action.ts';
import { readCgroupLayout, readCpuset } from '../../../src/linux/cgroups.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { openTenancy, type Tenancy, type Tenant } from './tenancy.ts';

/** What one scene came to. */
export type SceneOutcome = {
  /** Settings that differed from before when the action was in force. */
  readonly changed: string[];
  /** Newest first. */
  readonly actions: Action[];
  /** What the engine thought of each instance while it was permitted to act. */
  readonly verdicts: string[];
  /** What differs from before after it was given back. */
  readonly differences: string[];
};

export type MainJob = {
  readonly cgroupVersion: number;
  /** Weights: a latency-critical instance beside more batch than there are CPUs. */
  readonly tenants: SceneOutcome;
  /** Cpusets: two busy instances on CPU 0. While the action is in force one of the CPUs that it gave goes offline. */
  readonly stalePinning: SceneOutcome & { offline: number | null; effectiveWhileOffline: number[] };
  readonly log: string;
};

const prefix = 'lab';
const policy = {
  instances: [
    { match: `/${prefix}-critical*`, class: 'latency-critical' },
    { match: `/${prefix}-batch*`, class: 'batch' },
    { match: `/${prefix}-pinned*`, allowWidening: true },
    // What runs the loop itself under systemd, and is many times as heavy in the emulation as on a machine.
    { match: '/system.slice/lab-agent.service', class: 'batch', mode: 'off' },
    { match: '**', mode: 'off' },
  ],
};

// Compiled, as it ships: while it strips types from the whole of it Node now and then dies in the emulation.
const compiled = new URL('../../../dist/cli/demo/loop.js', import.meta.url).href;
const { startLoop } = (await import(compiled)) as typeof import('../../../src/cli/demo/loop.ts');

const layout = readCgroupLayout(hostRoots);
const tenancy = openTenancy(prefix);
const loop = await startLoop(policy, { startSeconds: 120, answerSeconds: 60 });
try {
  const tenants = await runTenants(tenancy, loop);
  const stalePinning = await runStalePinning(tenancy, loop);
  const job: MainJob = { cgroupVersion: layout.version, tenants, stalePinning, log: loop.log() };
  console.log(JSON.stringify(job));
} catch (error) {
  console.error(loop.log());
  throw error;
} finally {
  await loop.stop();
  await tenancy.clear();
}

async function runTenants(tenancy: Tenancy, loop: Loop): Promise<SceneOutcome> {
  const critical = tenancy.add('critical', ['latency', '--burn-us', '700']);
  const batch = Array.from({ length: 8 }, (_, i) => tenancy.add(`batch${i}`, ['spin']));
  const outcome = await runScene(tenancy, loop, [critical, ...batch]);
  for (const tenant of [critical, ...batch]) await tenancy.remove(tenant);
  return outcome;
}

async function runStalePinning(tenancy: Tenancy, loop: Loop): Promise<MainJob['stalePinning']> {
  const pinned = ['pinned1', 'pinned2'].map(name => tenancy.add(name, ['spin'], '0'));
  let offline: number | null = null;
  let effectiveWhileOffline: number[] = [];
  const outcome = await runScene(tenancy, loop, pinned, async () => {
    const widened = pinned
      .map(({ id }) => readCpuset(layout, id))
      .find(({ own }) => own.length > 1);
    offline = widened?.own.find(cpu => cpu !== 0) ?? null;
    if (offline === null) return;
    setOnline(offline, false);
    try {
      await sleep(2000);
      effectiveWhileOffline = pinned.flatMap(({ id }) => {
        const { own, effective } = readCpuset(layout, id);
        return own.length > 1 ? effective : [];
      });
    } finally {
      setOnline(offline, true);
    }
  });
  return { ...outcome, offline, effectiveWhileOffline };
}

/** Waits for the first change of an instance's settings with permission to act, takes the permission away, and compares. */
async function runScene(
  tenancy: Tenancy,
  loop: Loop,
  tenants: readonly Tenant[],
  meanwhile?: () => Promise<void>,
): Promise<SceneOutcome> {
  await tenancy.ready();
  const before = readKernelState(tenants);
  const watch = watchSettings(tenants);
  const since = Date.now() / 1000;
  await loop.stamp('enforce');
  // In the emulation heartbeats are late at times, and then nothing may act: it is tried again.
  await watch.firstChange(240, 100);
  await sleep(1000);
  const changed = watch.changed();
  const verdicts = (await loop.verdicts()).map(
    ({ instance, state, why }) => `${instance}: ${state}: ${why}`,
  );
  await meanwhile?.();
  await loop.stamp('observe');
  // In the emulation systemd may take longer to reload than it is waited for: then it is asked again.
  await watch.untilRestored(120);
  await sleep(1000);
  const actions = (await loop.actions()).filter(({ at }) => at >= since);
  return { changed, verdicts, actions, differences: differences(before, readKernelState(tenants)) };
}

function setOnline(cpu: number, online: boolean): void {
  writeFileSync(`/sys/devices/system/cpu/cpu${cpu}/online`, online ? '1' : '0');
}
