import { setTimeout as pause } from 'node:timers/promises';
import test from 'ava';
import type { SchedProbe } from '../../src/agent/probes/sched.ts';
import { blockedReasons, word } from '../../src/agent/probes/sched-layout.ts';
import { loadNative } from '../../src/linux/native.ts';
import type { CgroupBox } from '../support/cgroup-box.ts';
import { needs } from '../support/needs.ts';
import {
  endAll,
  makeBox,
  near,
  readDetails,
  readTogether,
  schedstat,
  spin,
  startPinned,
  startProbe,
  workload,
} from '../support/sched-scene.ts';

const kernelTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');
test.afterEach.always(endAll);

/** The probe, as if the kernel showed it none of the events of one of its programs. */
function startWithout(hidden: string): SchedProbe {
  const native = loadNative();
  return startProbe({
    native: {
      ...native,
      loadObject: (path, options) => {
        const object = native.loadObject(path, options);
        const attach = (program: string) =>
          program === hidden ? undefined : object.attach(program);
        return new Proxy(object, {
          get: (_, name: keyof typeof object) =>
            name === 'attach' ? attach : object[name].bind(object),
        });
      },
    },
  });
}

kernelTest('wake-ups that no hook is shown are charged when they were', async t => {
  const [whole, deaf] = [startProbe(), startWithout('sched_wakeup')];
  const [box, other] = [makeBox('usual'), makeBox('usual')];
  await startPinned(other, 0, ...spin);
  await startPinned(box, 0, workload, 'latency', '--period-us', '1000', '--burn-us', '300');
  await pause(300);
  const told = (probe: SchedProbe, of: CgroupBox) => {
    const { counters } = readDetails(probe, of);
    return {
      run: word(counters, 'runNs'),
      wait: word(counters, 'waitNs'),
      sleep: word(counters, 'blockedNs', blockedReasons.indexOf('sleep')),
      latencies: word(counters, 'latencyCount'),
      latency: word(counters, 'latencySumNs'),
    };
  };
  const from = [told(whole, box), told(deaf, box)] as const;
  const recovered = deaf.counters().recovered;
  await pause(3000);
  const to = [told(whole, box), told(deaf, box)] as const;
  for (const what of ['run', 'wait', 'sleep', 'latencies', 'latency'] as const) {
    const [seen, put] = to.map((reading, i) => reading[what] - (from[i]?.[what] ?? 0));
    // Of a wait of some 100 µs the run queue's clock misses 4.
    near(t, (put ?? 0) / (seen ?? 1), 1, 0.06, what);
  }
  const turns = to[1].latencies - from[1].latencies;
  const [put, seldom] = [deaf.counters().recovered - recovered, whole.counters().recovered];
  t.true(turns > 500 && put > 0.9 * turns, `${put} wake-ups of ${turns} turns`);
  t.true(seldom < 0.5 * turns, `${seldom} by the whole probe`);
});

kernelTest('a turn that no hook was shown the beginning of takes the place of a wait', async t => {
  const deaf = startWithout('sched_switch');
  const box = makeBox();
  const child = await startPinned(box, 1, ...spin);
  await pause(2000);
  const [{ totals }, kernelSays] = readTogether(deaf, box, () => schedstat(child));
  // Of many turns that were not shown the last is known: the others are part of a wait, and none is lost.
  const [told, all] = [totals, kernelSays].map(({ runNs, waitNs }) => (runNs + waitNs) / 1e9);
  // Before it was in the cgroup it was a shell for some ms.
  near(t, told ?? 0, all ?? 0, 0.05, 'run and wait');
  t.true(totals.runNs > 0);
  t.true(deaf.counters().recovered > 0);
});
