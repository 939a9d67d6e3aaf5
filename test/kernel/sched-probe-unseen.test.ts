import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
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
  schedstat,
  spin,
  startPinned,
  startProbe,
  workload,
} from '../support/sched-scene.ts';
import { stolenSeconds } from '../support/stolen.ts';

const kernelTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');
test.afterEach.always(endAll);

/** The probe with constants of its own; and as if the kernel showed it none of the events of one of its programs. */
function startWith(constants: Record<string, number | boolean>, hidden?: string): SchedProbe {
  const native = loadNative();
  return startProbe({
    native: {
      ...native,
      loadObject: (path, options) => {
        const object = native.loadObject(path, {
          ...options,
          constants: { ...options?.constants, ...constants },
        });
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

function totalsOf(probe: SchedProbe, box: CgroupBox) {
  const { counters } = readDetails(probe, box);
  const [runNs, waitNs] = [word(counters, 'runNs'), word(counters, 'waitNs')];
  const switches = word(counters, 'voluntarySwitches') + word(counters, 'involuntarySwitches');
  return { runNs, waitNs, switches };
}

/** By the kernel's own account. */
function switchesOf({ pid }: ChildProcess): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const counts = status.matchAll(/voluntary_ctxt_switches:\s+(\d+)/g);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

kernelTest('wake-ups that no hook is shown are charged when they were', async t => {
  const [whole, deaf] = [startProbe(), startWith({}, 'sched_wakeup')];
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
  const turns = to[1].latencies - from[1].latencies;
  for (const what of ['run', 'wait', 'sleep', 'latencies', 'latency'] as const) {
    const [seen = 1, put = 0] = to.map((reading, i) => reading[what] - (from[i]?.[what] ?? 0));
    // Of a wait of some 100 µs the run queue's clock misses 4, and 22 were met where other machines had the same cores.
    const late = what === 'latencies' ? 0 : (40_000 * turns) / seen;
    near(t, put / seen, 1, Math.max(0.06, late), what);
  }
  const [put, seldom] = [deaf.counters().recovered - recovered, whole.counters().recovered];
  t.true(turns > 500 && put > 0.9 * turns, `${put} wake-ups of ${turns} turns`);
  t.true(seldom < 0.5 * turns, `${seldom} by the whole probe`);
});

kernelTest(
  'of a process that hides its switches and wake-ups nothing is lost, nor of who comes after it',
  async t => {
    const [hides, other] = [makeBox('usual'), makeBox('usual')];
    const periodic = ['latency', '--period-us', '3000', '--burn-us', '500'];
    const children = [
      await startPinned(hides, 0, workload, ...periodic),
      await startPinned(other, 0, ...spin),
    ] as const;
    const probe = startWith({ withholding_process: children[0].pid ?? 0, withholds: true });
    const accounts = () =>
      children.map(child => ({ ...schedstat(child), switches: switchesOf(child) }));
    await pause(300);
    const stolenBefore = stolenSeconds();
    const from = { told: [hides, other].map(box => totalsOf(probe, box)), kernel: accounts() };
    await pause(3000);
    const to = { told: [hides, other].map(box => totalsOf(probe, box)), kernel: accounts() };
    const stolen = stolenSeconds() - stolenBefore;
    for (const [i, name] of ['who hides', 'who comes after'].entries()) {
      const grown = (of: 'told' | 'kernel', what: 'runNs' | 'waitNs' | 'switches') =>
        (to[of][i]?.[what] ?? 0) - (from[of][i]?.[what] ?? 0);
      const seconds = (of: 'told' | 'kernel', what: 'runNs' | 'waitNs') => grown(of, what) / 1e9;
      t.log(
        name,
        ...(['runNs', 'waitNs', 'switches'] as const).map(what => [
          grown('told', what),
          grown('kernel', what),
        ]),
      );
      near(
        t,
        seconds('told', 'runNs'),
        seconds('kernel', 'runNs'),
        0.03 + stolen,
        `run of ${name}`,
      );
      near(t, seconds('told', 'waitNs'), seconds('kernel', 'waitNs'), 0.03, `wait of ${name}`);
      near(
        t,
        grown('told', 'switches') / grown('kernel', 'switches'),
        1,
        0.02,
        `switches of ${name}`,
      );
    }
    // What process 1 itself hides on some machine counts as unseen here.
    const { lost, recovered } = probe.counters();
    t.true(recovered > 1000, `${recovered} recovered`);
    t.is(lost.withheld_switch, 0);
  },
);
