import type { BlockLab } from '../inside/block.ts';
import type { ScsiLab } from '../inside/scsi.ts';
import { withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} and cgroup v2, writeback is that of the cgroup whose pages are written`,
    async t => {
      t.timeout(400_000);
      const lab = await withLab({ kernel }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/block.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 240 })) as BlockLab;
      });
      t.log(JSON.stringify(lab));
      t.is(lab.cgroupVersion, 2);
      t.deepEqual(lab.direct, { operations: 200, bytes: 200 * 16_384 });
      const { own, all } = lab.writeback;
      t.is(all.bytes, 1 << 20);
      t.deepEqual(own, all);
    },
  );

  needsLab(kernel)(
    `on Debian's ${kernel} and cgroup v2, requests that a disk fails, refuses or does in parts are counted as such, and so is who waits for it`,
    async t => {
      t.timeout(400_000);
      const began = performance.now();
      const lab = await withLab({ kernel }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/scsi.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 240 })) as ScsiLab;
      });
      t.log(JSON.stringify({ ...lab, took: (performance.now() - began) / 1000 }));

      for (const [scheduler, scenes] of Object.entries(lab.irregular)) {
        for (const [scene, seen] of Object.entries(scenes)) {
          const what = `${scheduler}, ${scene}`;
          t.deepEqual({ operations: seen.operations, bytes: seen.bytes }, seen.byDisk, what);
          t.is(seen.requeued, seen.requeues, what);
          t.is(seen.failed, seen.toldFailed, what);
        }
        const { regular, bad, retried, busy, busyTogether, short } = scenes;
        const of = ({ requeued, in_parts, failed, operations }: typeof regular) => ({
          requeued,
          in_parts,
          failed,
          operations,
        });
        const none = { requeued: 0, in_parts: 0, failed: 0 };
        t.deepEqual(of(regular), { ...none, operations: 100 });
        t.deepEqual(of(bad), { ...none, failed: 2, operations: 6 });
        t.is(bad.byScsi.errors, 2);
        t.deepEqual(of(retried), { ...none, requeued: 15, failed: 3, operations: 3 });
        t.is(retried.byScsi.errors, 18);
        // Each tenth command, those that come again with them: SCSI asks one that was busy after seven tries of its own.
        t.true(busy.byScsi.busy >= 10 && busy.byScsi.busy <= 12, `${busy.byScsi.busy} of 100`);
        t.deepEqual(of(busy), { ...none, requeued: 7 * busy.byScsi.busy, operations: 100 });
        // Some are added to one that is queued already, before they become requests.
        const { requeued, byDisk } = busyTogether;
        t.true(busyTogether.byScsi.busy >= 39 && requeued >= busyTogether.byScsi.busy);
        t.is(busyTogether.bytes, 400 * 16_384);
        t.deepEqual(of(busyTogether), { ...none, requeued, operations: byDisk.operations });
        // The half that is left is a command of its own.
        const again = short.byScsi.sent - 100;
        t.true(again >= 10 && again <= 12, `${again} of 100`);
        t.deepEqual(of(short), { ...none, requeued: again, in_parts: again, operations: 100 });
        t.is(short.bytes, 100 * 16_384);
      }
      t.deepEqual(lab.mapped, { failed: 0, toldFailed: 3 });

      // 20 ms each, but for how late an emulated machine's clock is.
      const { queue, device } = lab.latency;
      t.deepEqual([queue.count, device.count], [100, 100]);
      t.true(device.around >= 90, `${device.around} of 100 reads took 1/64 to 1/32 s`);
      const took = lab.pressure.alone.seconds;
      t.true(device.seconds >= 2 && device.seconds <= took, `${device.seconds} of ${took} s`);
      t.true(queue.seconds < 0.05 * device.seconds, `queued for ${queue.seconds} s`);

      // Of a page that is not in memory the fault takes what the read of it does; beside those of the walk are the program's own.
      const { cold, warm } = lab.faults;
      const own = cold.walked.majorFaults - cold.walked.pages;
      t.true(own >= 0 && own < 20, `${cold.walked.majorFaults} of ${cold.walked.pages} pages`);
      t.true(Math.abs(cold.major.count - cold.walked.majorFaults) <= 2, `${cold.major.count}`);
      const walkSeconds = cold.walked.walkNs / 1e9;
      t.true(cold.major.around >= 0.9 * cold.walked.pages, `${cold.major.around} took that long`);
      t.true(cold.major.seconds >= 0.02 * cold.walked.pages, `${cold.major.seconds} s`);
      const part = cold.major.seconds / walkSeconds;
      t.true(part > 0.9 && part < 1.1, `${cold.major.seconds} of ${walkSeconds} s`);
      t.true(cold.minor.seconds < 0.1 * cold.major.seconds, `minor: ${cold.minor.seconds} s`);
      t.true(warm.major.count < 20, `${warm.major.count} of pages that are there`);

      const { alone, beside, throttled } = lab.pressure;
      for (const [what, { some, seconds, bytes }] of Object.entries(lab.pressure)) {
        t.true(some <= seconds + 0.1, `${what}: ${some} of ${seconds} s`);
        t.is(bytes, what === 'throttled' ? 3 << 20 : 100 * 4096, what);
      }
      // The disk takes 2 s for what is asked of it; the kernel's mean has a part of the reader's start on another CPU.
      for (const { some } of [alone, beside]) t.true(some >= 1.7, `${some} of 2 s at least`);
      t.true(alone.full >= 1.7 && alone.full <= alone.some + 0.01, 'all of its tasks wait');
      t.true(beside.full < 0.1 * beside.some, `${beside.full} s, while one of them runs`);
      t.true(throttled.some > 0.7 * throttled.seconds && throttled.seconds > 2, 'kept by io.max');
      t.deepEqual(lab.neighbour, { some: 0, full: 0, bytes: 0 }, 'nobody else waits');
      const all = alone.some + beside.some + throttled.some;
      // The kernel averages over the CPUs that were not idle: what else runs on the host makes it less.
      t.true(lab.host.some > 0.5 * all && lab.host.some <= lab.host.seconds + 0.1);
    },
  );
}
