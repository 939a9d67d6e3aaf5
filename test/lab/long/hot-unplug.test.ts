import { near } from '../../support/sched-scene.ts';
import type { HotUnplugLab } from '../inside/hot-unplug.ts';
import { withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

/** Before 6.2 a hook is now and then refused a task's storage (crowd.test.ts says when), and counts that. */
const mostUnstored: Readonly<Record<string, number>> = { '6.1': 20 };

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel}, a CPU that goes offline and comes back takes nothing from what an agent tells, and adds nothing`,
    async t => {
      t.timeout(240_000);
      const began = performance.now();
      const seen = await withLab({ kernel }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/hot-unplug.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 180 })) as HotUnplugLab;
      });
      t.log(JSON.stringify({ ...seen, took: (performance.now() - began) / 1000 }));

      const { unseen_switch: unseen = -1, task_storage: unstored = -1, ...lost } = seen.lost;
      const most = mostUnstored[kernel] ?? 0;
      t.true(unstored >= 0 && unstored <= most, `task_storage: ${unstored}`);
      // The kernel's tracepoints are silent on a CPU that is not online: its last switch is that of the thread that stops it.
      t.true(unseen >= 0 && unseen <= seen.cycles + unstored, `unseen_switch: ${unseen}`);
      t.deepEqual(
        Object.entries(lost).filter(([, count]) => count > 0),
        [],
      );
      t.deepEqual(seen.moves, {
        within: { all: 20, acrossNodes: 0 },
        across: { all: 20, acrossNodes: 20 },
      });
      for (const [name, { told, byTasks, byCgroup, seconds }] of Object.entries(seen.loads)) {
        // An emulated CPU takes some 0.1 ms for a hook, which the scheduler and a hook charge differently.
        const atSwitches = 0.0003 * (told.voluntary + told.involuntary);
        near(t, told.run, byTasks.run, 0.01 * byTasks.run + atSwitches, `${name}: run`);
        near(t, told.run, byCgroup, 0.01 * byCgroup + atSwitches, `${name}: cpu.stat`);
        near(t, told.wait, byTasks.wait, 0.01 * byTasks.wait + atSwitches, `${name}: wait`);
        for (const kind of ['voluntary', 'involuntary'] as const)
          near(t, told[kind], byTasks[kind], unstored, `${name}: ${kind} switches`);
        if (name === 'sleeper') continue;
        // A spinner runs or waits, all of the time; one that is stopped or let go is so a moment later than it is told.
        const tasks = name === 'elsewhere' ? 2 : 1;
        near(t, (told.run + told.wait) / tasks, seconds, 0.02 * seconds, `${name}: all its time`);
      }
      const { heavy, starved, sleeper } = seen.loads;
      t.true(starved.told.wait > 4, 'it waited for one that has its CPU');
      t.true(heavy.told.run > 8 && sleeper.told.voluntary > 100);
      t.true(seen.openWait >= 0.5, 'the CPU went during a wait');

      near(t, seen.ofCpu.told, seen.ofCpu.byQueue, 0.05 * seen.ofCpu.byQueue, 'waits for that CPU');
      const { before, away, after, othersMeanwhile } = seen.points;
      t.true(before > 0 && after > 0);
      // What was read while it was there may be told a moment later.
      t.true(away <= 1 && othersMeanwhile >= 2, 'none of a CPU that is away');
      t.true(seen.across >= 0, 'it goes on from where it was');
      t.deepEqual(seen.fell, []);
    },
  );
}
