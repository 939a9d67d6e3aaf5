import { mkdtempSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { readText } from '../../linux/read-file.ts';
import { hostRoots } from '../../linux/roots.ts';
import { readCpuIds } from '../../linux/topology.ts';
import { orNull } from '../ask.ts';
import type { Tell } from './act.ts';
import { type Loop, startLoop } from './loop.ts';
import type { DemoResult, HostFacts } from './result.ts';
import { openStage, type Stage } from './stage.ts';
import { runStalePinning } from './stale-pinning.ts';
import { measureAlone, runControl, runTenants, stageTenants } from './tenants.ts';

/** Policy of the demonstration: it may act on what it staged and on nothing else. */
export function demoPolicy(prefix: string): object {
  return {
    instances: [
      { match: `/${prefix}-critical`, class: 'latency-critical' },
      { match: `/${prefix}-batch*`, class: 'batch' },
      { match: `/${prefix}-pinned*`, allowWidening: true },
      { match: '**', mode: 'off' },
    ],
  };
}

/**
 * Stages the scenes, runs the real loop beside them, measures, and puts everything back, also when it fails or `signal`
 * aborts it.
 * @throws SculptorError DEMO_FAILED, and what the loop or the stage throws
 */
export async function runDemo(tell: Tell, signal: AbortSignal): Promise<DemoResult> {
  const prefix = `sculptor-demo-${process.pid}`;
  const rawFile = join(mkdtempSync(join(tmpdir(), 'sculptor-demo-')), 'lateness.tsv');
  const stage = openStage(prefix);
  const aborted = new Promise<never>((_, reject) =>
    signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
  );
  tell('starting the loop: sculpt up, mode observe');
  const starting = startLoop(demoPolicy(prefix));
  try {
    const loop = await Promise.race([starting, aborted]);
    return await Promise.race([runScenes(stage, loop, rawFile, tell), aborted]);
  } catch (error) {
    const [started] = await Promise.allSettled([starting]);
    if (started?.status === 'fulfilled') await keepRecord(started.value, rawFile);
    throw error;
  } finally {
    // The sculptor first: what it holds is given back while it is still there.
    const [started] = await Promise.allSettled([starting]);
    if (started?.status === 'fulfilled') await started.value.stop();
    await stage.clear();
    tell('everything staged is gone again');
  }
}

async function runScenes(
  stage: Stage,
  loop: Loop,
  rawFile: string,
  tell: Tell,
): Promise<DemoResult> {
  const began = performance.now();
  const tenants = stageTenants(stage, rawFile);
  const alone = await measureAlone(tenants, tell);
  const control = await runControl(loop, tenants, tell);
  const first = await runTenants({ stage, loop, tell }, tenants, alone);
  for (const instance of [tenants.critical, ...tenants.batch]) await stage.remove(instance);
  const second = await runStalePinning({ stage, loop, tell });
  await keepRecord(loop, rawFile);
  return {
    createdAt: new Date().toISOString(),
    seconds: (performance.now() - began) / 1000,
    host: hostFacts(stage),
    control,
    scenes: [first, second],
    rawFile,
  };
}

/** What the loop did and said, beside the raw samples: to see afterwards why. */
async function keepRecord(loop: Loop, rawFile: string): Promise<void> {
  const folder = dirname(rawFile);
  writeFileSync(join(folder, 'loop.log'), loop.log());
  const actions = await orNull(loop.actions());
  writeFileSync(join(folder, 'actions.json'), JSON.stringify(actions, null, 2));
}

function hostFacts({ layout }: Stage): HostFacts {
  return {
    hostName: hostname(),
    kernel: readText(`${hostRoots.proc}/sys/kernel/osrelease`) ?? 'unknown',
    cpus: readCpuIds(hostRoots).online.length,
    cgroupVersion: layout.version,
  };
}
