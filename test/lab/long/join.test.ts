import type { JoinOutcome } from '../inside/join.ts';
import { mostBoots, withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

for (const kernel of labKernels)
  needsLab(kernel)(
    `on Debian's ${kernel} the host tells beside each other what a guest's tasks waited for its vCPU, what of it the host took, and what the host's scheduler says it took`,
    async t => {
      t.timeout(mostBoots * 800_000);
      await withLab({ kernel, deadlineSeconds: 780, memoryMiB: 4096 }, async lab => {
        const script =
          'cd /checkout && node --disable-warning=ExperimentalWarning test/lab/inside/join.ts';
        const { alone, beside, tripleFaults } = JSON.parse(
          await lab.run(script, { timeoutSeconds: 700 }),
        ) as JoinOutcome;
        t.log(JSON.stringify({ alone, beside }));
        t.log(`triple faults of the guest, started again: ${tripleFaults.length}`, ...tripleFaults);
        const [calm, shared] = [alone[0], beside[0]];
        if (!calm || !shared) throw new Error('nothing is told of vCPU 0');

        // Two tasks that never sleep: one of them waits at each time, whoever has the CPU, and now and then a third.
        for (const { guestWait, lasted } of [calm, shared])
          t.true(
            guestWait > 0.9 * lasted && guestWait < 2 * lasted,
            `${guestWait} s in ${lasted} s`,
          );

        // Alone that wait is the guest's own doing, and beside the hog the host has a share in it, as both say.
        t.true(calm.hostWait < 0.15 * calm.guestWait, `${calm.hostWait} s`);
        t.true(calm.guestSteal < 0.15 * calm.guestWait, `${calm.guestSteal} s`);
        t.true(shared.hostWait > 10 && shared.hostWait < shared.guestWait);
        const ratio = shared.guestSteal / shared.hostWait;
        t.log(`beside the hog the guest says ${ratio.toFixed(4)} of what the host says`);
        t.true(Math.abs(ratio - 1) < 0.1);

        // Of the vCPU that no hog is beside the host took little.
        t.true(Number(beside[1]?.hostWait) < 0.2 * shared.hostWait);
        t.true(Number(beside[1]?.guestSteal) < 0.2 * shared.hostWait);
      });
    },
  );
