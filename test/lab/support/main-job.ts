import type { ExecutionContext } from 'ava';
import type { MainJob } from '../inside/main-job.ts';
import { type Lab, withLab } from '../lab.ts';
import type { MachineOptions } from './qemu.ts';

/** The main job in the lab: acts, survives a CPU that goes offline, gives all back. `afterwards` looks at the machine. */
export async function runMainJob(
  t: ExecutionContext,
  options: Partial<MachineOptions>,
  afterwards?: (lab: Lab) => Promise<void>,
): Promise<void> {
  t.timeout(1_000_000);
  await withLab({ ...options, deadlineSeconds: 900 }, async lab => {
    const script =
      'cd /checkout && node --disable-warning=ExperimentalWarning test/lab/inside/main-job.ts';
    const job = JSON.parse(await lab.run(script, { timeoutSeconds: 800 })) as MainJob;
    t.is(job.cgroupVersion, 2);
    const { tenants, stalePinning } = job;
    const told = JSON.stringify({ tenants, stalePinning, log: job.log.split('\n') }, null, 1);
    t.true(
      tenants.changed.some(line => /critical.*\/cpu\.weight \d+/.test(line)),
      told,
    );
    t.true(
      stalePinning.changed.some(line => /pinned.*\/cpuset\.cpus 0[-,]/.test(line)),
      told,
    );
    t.not(stalePinning.offline, null);
    t.false(stalePinning.effectiveWhileOffline.includes(stalePinning.offline ?? -1));
    for (const scene of [tenants, stalePinning]) {
      t.deepEqual(scene.differences, [], told);
      // What was recommended before the engine heard that it may not act any more was rejected: that touched nothing.
      const ends = scene.actions.filter(({ state }) => state !== 'rejected');
      t.deepEqual([...new Set(ends.map(({ state }) => state))], ['restored'], told);
    }
    await afterwards?.(lab);
  });
}
