import ava from 'ava';
import { startOutlierProbe } from '../../src/agent/probes/outliers.ts';
import { loadNative } from '../../src/linux/native.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { endAll, makeBox } from '../support/sched-scene.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu');
ava.afterEach.always(endAll);

/** Woken by one write, with interrupts off: more than the kernel has room for at hand, which it gets more of in an interrupt. */
const sleepers = 300;
const herd = `pipe my $r, my $w; $SIG{USR1} = sub { syswrite $w, 'x' };
  for (1 .. ${sleepers}) { next if fork; my $set = ''; vec($set, fileno $r, 1) = 1; select $set, undef, undef, undef; sleep; exit }
  while () { sleep }`;

test('of who is woken when there is no room to follow it all are told or counted', async t => {
  t.timeout(30_000);
  const box = makeBox('most');
  const child = box.spawn('perl', '-e', herd);
  await eventually('all of them sleep', 20, () =>
    box.read('cgroup.procs').trim().split('\n').length > sleepers ? true : null,
  );
  const native = loadNative();
  const asked = { aboveSeconds: 0, perInstancePerSecond: 100_000 };
  const probe = startOutlierProbe({ native, cgroupV1: true, ...asked });
  t.teardown(probe.stop);
  const before = probe.counts();
  child.kill('SIGUSR1');
  const woken = new Set<number>();
  const counted = (): number => {
    const { memory, full } = probe.counts();
    return memory - before.memory + full - before.full;
  };
  await eventually('each was woken', 10, () => {
    for (const { waiter, waker } of probe.take())
      if (waiter.cgroupId === box.id && waker?.tid === child.pid) woken.add(waiter.tid);
    return woken.size + counted() >= sleepers ? true : null;
  });
  t.log(`${woken.size} told, ${counted()} counted`);
  t.true(woken.size > 0 && woken.size < sleepers);
  t.true(probe.counts().memory > before.memory);
});
