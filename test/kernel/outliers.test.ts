import { setTimeout as pause } from 'node:timers/promises';
import ava, { type ExecutionContext } from 'ava';
import { startOutlierProbe } from '../../src/agent/probes/outliers.ts';
import { loadNative } from '../../src/linux/native.ts';
import { needs } from '../support/needs.ts';
import { eventually, stageScene } from '../support/scene.ts';
import {
  endAll,
  makeBox,
  near,
  schedstat,
  spin,
  startPinned,
  throttledSeconds,
  workload,
} from '../support/sched-scene.ts';
import { startTold } from '../support/told-agent.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');
ava.afterEach.always(endAll);

test('long waits are told one by one with who woke and who had the CPU, so many a second, while somebody asks', async t => {
  t.timeout(60_000);
  const told = await startTold();
  const scene = stageScene('sculptor-outliers');
  const [crowd, woken, quota] = [scene.id('crowd'), scene.id('woken'), scene.id('quota')];
  const ask = (aboveSeconds: number | null, perInstancePerSecond = 5) =>
    told.agent.change({
      ...told.agent.settings(),
      outliers: { aboveSeconds, perInstancePerSecond },
    });
  const countOf = (reason: string) =>
    Number(
      told
        .pointsOf('sculptor.agent.outliers', 'test-host')
        .findLast(({ attributes }) => attributes['sculptor.reason'] === reason)?.value ?? 0,
    );
  try {
    scene.spawn('crowd', 'spin', '--threads', '8');
    scene.spawn('woken', 'latency', '--period-us', '20000', '--burn-us', '15000');
    scene.spawn('woken', 'latency', '--period-us', '20000', '--burn-us', '15000');
    // Those two may be so late that they never sleep; this one does each time.
    scene.spawn('woken', 'latency', '--period-us', '20000', '--burn-us', '2000');
    // One has the lock, sleeps for a while, and gives it to the next.
    const relay = scene.id('relay');
    scene.spawn('relay', 'convoy', '--threads', '4');
    // Of so little weight that whoever is woken waits, whoever else is there.
    scene.write('relay', 'cpu.shares', '10');
    scene.spawn('quota', 'spin');
    // Of a tenth of the others' weight, so that it waits for its 2 ms.
    scene.write('quota', 'cpu.shares', '102');
    scene.write('quota', 'cpu.cfs_quota_us', '2000');
    await eventually('a first export of details', 10, () =>
      told.pointsOf('sculptor.cpu.wakeups', woken).length > 0 ? true : null,
    );
    t.deepEqual(told.outliers(), [], 'nobody has asked');

    // Whoever sleeps all the while waits for nothing.
    const sleeper = scene.id('sleeper');
    scene.spawn('sleeper', 'latency', '--period-us', '2000000', '--burn-us', '10');
    ask(0.002);
    const ofCrowd = () => told.outliers().filter(({ task }) => task.instance === crowd);
    const ofWoken = () => told.outliers().filter(({ task }) => task.instance === woken);
    const fromScene = [crowd, woken, quota];
    await eventually('outliers of both, and one that ran after another of the scene', 20, () =>
      ofCrowd().length >= 10 &&
      ofCrowd().some(({ preemptor }) => fromScene.includes(preemptor?.instance ?? '')) &&
      ofWoken().some(({ began }) => began === 'woken')
        ? true
        : null,
    );
    const released = await eventually('one that waits once its quota lets it go', 20, () =>
      told
        .outliers()
        .find(
          ({ task, began, throttledSeconds }) =>
            task.instance === quota && began === 'throttled' && throttledSeconds > 0.002,
        ),
    );
    // By whoever gives the lock away, or by the timer that it sleeps with.
    const ofRelay = () =>
      told.outliers().filter(({ task, began }) => task.instance === relay && began === 'woken');
    await eventually('one that another task woke, and one that a timer did', 20, () =>
      ofRelay().some(({ waker }) => waker) && ofRelay().some(({ waker }) => !waker) ? true : null,
    );
    for (const { task, waker } of ofRelay().filter(each => each.waker)) {
      t.is(waker?.instance, relay, JSON.stringify(waker));
      t.is(waker?.tgid, task.tgid);
      t.not(waker?.tid, task.tid);
    }
    t.deepEqual(
      ofWoken().filter(({ waker }) => waker),
      [],
      'whom a timer interrupts wakes nobody',
    );
    t.true(released.seconds >= 0.002);
    t.is(released.waker, null);
    t.true(ofCrowd().every(({ throttledSeconds }) => throttledSeconds === 0));
    const ids = new Map<string, string>();
    for (const { seconds, cpu, task, stack, stackId } of [...ofCrowd(), ...ofWoken()]) {
      t.true(seconds >= 0.002 && seconds < 5, `${seconds} s`);
      t.true(cpu < navigator.hardwareConcurrency);
      t.true(task.name.startsWith('sculpt-'), task.name);
      t.true(stack.length > 0);
      const text = stack.join();
      t.is(ids.get(text) ?? stackId, stackId, 'one stack, one id');
      if (stackId !== null) ids.set(text, stackId);
    }
    t.true(ofCrowd().every(({ began, waker }) => began !== 'preempted' || waker === null));
    t.is(new Set(ids.values()).size, ids.size, 'and none of two');
    t.true(told.outliers().some(({ stack }) => stack.includes('__schedule')));
    t.true(
      told.outliers().every(({ task, seconds }) => task.instance !== sleeper || seconds < 1.5),
    );
    const bySecond = Map.groupBy(ofCrowd(), ({ at }) => Math.floor(at));
    // Two of the kernel's seconds may lie in one of the clock's.
    for (const [second, of] of bySecond)
      t.true(of.length <= 10, `${of.length} in second ${second}`);

    t.is(countOf('excess'), 0);
    // Of 512 a second there are more, where each of eight spinners waits once in some ms.
    ask(0.0001, 1000);
    await eventually('more than are told', 10, () => (countOf('excess') > 0 ? true : null));
    ask(null);
    await eventually('the count that was limited, and the end', 10, () => {
      const all = countOf('told');
      return countOf('limited') > 0 && all === told.outliers().length ? true : null;
    });
    const notTold = ['excess', 'full', 'memory'].map(countOf);
    t.is(
      told.agent.status().lost['outliers_not_told'],
      notTold.reduce((sum, count) => sum + count, 0),
    );
  } finally {
    await scene.end();
    await told.stop();
  }
});

test('a task that its quota holds back waits for no CPU, wherever it is moved meanwhile', async t => {
  t.timeout(60_000);
  const [box, neighbour] = [makeBox('most'), makeBox('usual')];
  const spinner = await startPinned(box, 1, ...spin);
  box.write('cpu.cfs_quota_us', '20000');
  await pause(500);
  const probe = startProbe(t, 0.05);
  const of = (cgroupId: number) =>
    probe.take().filter(({ waiter }) => waiter.cgroupId === cgroupId);
  const before = throttledSeconds(box);
  await pause(1000);
  t.deepEqual(of(box.id), []);
  for (let i = 0; i < 60; i += 1) {
    loadNative().setAffinity(Int32Array.of(spinner.pid ?? 0), Int32Array.of(i % 2));
    await pause(30);
  }
  t.deepEqual(of(box.id), []);
  // It had periods of 80 ms that would have been told.
  t.true(throttledSeconds(box) - before > 1.5);

  // And who does wait is told.
  loadNative().setAffinity(Int32Array.of(spinner.pid ?? 0), Int32Array.of(1));
  box.write('cpu.cfs_quota_us', '-1');
  await startPinned(neighbour, 1, ...spin);
  await eventually('a long wait behind it', 20, () =>
    of(neighbour.id).find(({ preemptor }) => preemptor?.cgroupId === box.id),
  );
});

test('a task that is held back and waits too is told with its wait, and the other apart', async t => {
  t.timeout(60_000);
  const [box, neighbour] = [makeBox('usual'), makeBox('usual')];
  neighbour.write('cpu.shares', '10240');
  await startPinned(neighbour, 1, ...spin);
  const spinner = await startPinned(box, 1, ...spin);
  // Beside a neighbour of ten times its weight it takes 50 ms to run for 5.
  box.write('cpu.cfs_quota_us', '5000');
  await pause(500);
  const probe = startProbe(t, 0.0005);
  const witness = () => {
    const throttled = throttledSeconds(box);
    // Which mixes both.
    return { throttled, waited: schedstat(spinner).waitNs / 1e9 - throttled };
  };
  const before = witness();
  await pause(3000);
  const after = witness();
  const told = probe.take().filter(({ waiter }) => waiter.cgroupId === box.id);
  const sum = (field: 'latencyNs' | 'throttledNs') =>
    told.reduce((total, outlier) => total + outlier[field], 0) / 1e9;
  // At either end a wait, or a period of the quota, may be in one account and not in the other.
  near(t, sum('latencyNs'), after.waited - before.waited, 0.2, 'waited');
  t.true(sum('latencyNs') > 1);
  // Those after which it got the CPU at once are not told.
  const throttled = sum('throttledNs');
  t.true(throttled > 0.1 && throttled < after.throttled - before.throttled + 0.1, `${throttled}`);
  const released = told.filter(({ began }) => began === 'throttled');
  t.true(released.every(({ throttledNs }) => throttledNs > 0));
  t.true(released.some(({ preemptor }) => preemptor?.cgroupId === neighbour.id));
});

test('of more than there is room for until they are taken all are told or counted', async t => {
  t.timeout(60_000);
  const [box, neighbour] = [makeBox('most'), makeBox('most')];
  await startPinned(neighbour, 1, ...spin);
  const often = [workload, 'latency', '--period-us', '100', '--burn-us', '10'];
  for (let i = 0; i < 4; i += 1) await startPinned(box, 1, ...often);
  // Nearly each wait is one, be it of a switch's own length.
  const probe = startProbe(t, 1e-6, 1_000_000);
  const room = 4096;
  await eventually('more than there is room for', 20, () =>
    probe.counts().found > room + 500 ? true : null,
  );
  await endAll();
  const before = probe.counts();
  t.deepEqual([before.limited, before.memory], [0, 0]);
  t.true(before.full >= 500);
  const [taken, after] = [probe.take().length, probe.counts()];
  t.log(JSON.stringify({ before, taken, after }));
  t.is(before.found - before.full, room);
  t.true(taken >= room && taken <= room + after.found - before.found, `${taken} taken`);
  await eventually('that there is room again', 20, () =>
    probe.counts().found > after.found + 10 ? true : null,
  );
  t.is(probe.counts().full, after.full);
});

function startProbe(t: ExecutionContext, aboveSeconds: number, perInstancePerSecond = 100) {
  const probe = startOutlierProbe({
    native: loadNative(),
    cgroupV1: true,
    aboveSeconds,
    perInstancePerSecond,
  });
  t.teardown(probe.stop);
  return probe;
}
