import { needs } from '../support/needs.ts';
import { eventually, stageScene } from '../support/scene.ts';
import { startTold } from '../support/told-agent.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');

test('long waits are told one by one with who woke and who had the CPU, so many a second, while somebody asks', async t => {
  t.timeout(60_000);
  const told = await startTold();
  const scene = stageScene('sculptor-outliers');
  const [crowd, woken] = [scene.id('crowd'), scene.id('woken')];
  const ask = (aboveSeconds: number | null) =>
    told.agent.change({
      ...told.agent.settings(),
      outliers: { aboveSeconds, perInstancePerSecond: 5 },
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
    await eventually('outliers of both', 20, () =>
      ofCrowd().length >= 10 && ofWoken().some(({ began }) => began === 'woken') ? true : null,
    );
    for (const { seconds, cpu, task, stack } of [...ofCrowd(), ...ofWoken()]) {
      t.true(seconds >= 0.002 && seconds < 5, `${seconds} s`);
      t.true(cpu < navigator.hardwareConcurrency);
      t.true(task.name.startsWith('sculpt-'), task.name);
      t.true(stack.length > 0);
    }
    t.true(ofCrowd().every(({ began, waker }) => began !== 'preempted' || waker === null));
    t.true(
      ofCrowd().some(
        ({ preemptor }) => preemptor?.instance === crowd || preemptor?.instance === woken,
      ),
      'who had the CPU is one of the two, on a machine with nothing else',
    );
    t.true(told.outliers().some(({ stack }) => stack.includes('__schedule')));
    t.true(
      told.outliers().every(({ task, seconds }) => task.instance !== sleeper || seconds < 1.5),
    );
    const bySecond = Map.groupBy(ofCrowd(), ({ at }) => Math.floor(at));
    // Two of the kernel's seconds may lie in one of the clock's.
    for (const [second, of] of bySecond)
      t.true(of.length <= 10, `${of.length} in second ${second}`);

    ask(null);
    await eventually('the count that was limited, and the end', 10, () => {
      const all = countOf('told');
      return countOf('limited') > 0 && all === told.outliers().length ? true : null;
    });
  } finally {
    await scene.end();
    await told.stop();
  }
});
