import type { ExecutionContext } from 'ava';
import type { MainJob } from '../inside/main-job.ts';
import { withLab } from '../lab.ts';
import type { MachineOptions } from './qemu.ts';

/**
 * V8 of Node 24 dies now and then under QEMU's emulation of several CPUs at once (seen in about one start of six on a busy
 * machine, never on a real one), by this check of its own table of compiled code.
 */
const diedOfEmulation = /Check failed: it->second\.Size\(\) > offset/;
const attempts = 3;

/** The main job in the lab: acts, survives a CPU that goes offline, gives all back. `afterwards` looks at the machine. */
export async function runMainJob(
  t: ExecutionContext,
  options: Partial<MachineOptions>,
  afterwards?: (run: (script: string) => Promise<string>) => Promise<void>,
): Promise<void> {
  t.timeout(1_900_000);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await runOnce(t, options, afterwards);
    } catch (error) {
      if (!diedOfEmulation.test(String(error)) || attempt === attempts) throw error;
      t.log(`attempt ${attempt}: V8 died of the emulation; once more`);
    }
  }
}

async function runOnce(
  t: ExecutionContext,
  options: Partial<MachineOptions>,
  afterwards?: (run: (script: string) => Promise<string>) => Promise<void>,
): Promise<void> {
  await withLab({ ...options, deadlineSeconds: 600 }, async lab => {
    const script =
      'cd /checkout && node --disable-warning=ExperimentalWarning test/lab/inside/main-job.ts';
    const job = JSON.parse(await lab.run(script, { timeoutSeconds: 480 })) as MainJob;
    t.is(job.cgroupVersion, 2);
    const { tenants, stalePinning } = job;
    t.true(
      tenants.changed.some(line => /critical.*\/cpu\.weight \d+/.test(line)),
      job.log,
    );
    t.true(
      stalePinning.changed.some(line => /pinned.*\/cpuset\.cpus 0[-,]/.test(line)),
      job.log,
    );
    t.not(stalePinning.offline, null);
    t.false(stalePinning.effectiveWhileOffline.includes(stalePinning.offline ?? -1));
    for (const scene of [tenants, stalePinning]) {
      t.deepEqual(scene.differences, []);
      t.is(scene.actions[0]?.state, 'restored', JSON.stringify(scene.actions[0]?.reason));
    }
    await afterwards?.(lab.run);
  });
}
