import { readdirSync, readFileSync } from 'node:fs';
import { needs } from '../support/needs.ts';
import { eventually, stageScene } from '../support/scene.ts';
import { coresOf, startTold } from '../support/told-agent.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus', 'bpftrace', 'tracefs');

test('driver: bpftrace: run time, wait and latency of a real cgroup, and nothing that it cannot tell', async t => {
  t.timeout(60_000);
  const told = await startTold({ driver: 'bpftrace' });
  const scene = stageScene('sculptor-bpftrace');
  const id = scene.id('four');
  try {
    scene.spawn('four', 'spin', '--threads', '4');
    await eventually('seven seconds of series', 20, () =>
      told.pointsOf('container.cpu.time', id).length >= 7 ? true : null,
    );
    const used = told.pointsOf('container.cpu.time', id);
    const wait = told.pointsOf('sculptor.runqueue.wait', id);
    const together = coresOf(used) + coresOf(wait);
    t.true(Math.abs(together - 4) < 0.4, `${together} cores of four threads`);
    t.true(coresOf(wait) > 1.5, `${coresOf(wait)} cores of wait`);
    t.true(used.every((point, i) => i === 0 || Number(point.value) >= Number(used[i - 1]?.value)));
    const histogram = await eventually(
      'the latency histogram',
      5,
      () => told.pointsOf('sculptor.runqueue.latency', id).at(-1)?.value,
    );
    t.true(typeof histogram === 'object' && histogram.kind === 'explicit' && histogram.count > 100);
    t.deepEqual(told.pointsOf('sculptor.cpu.throttled.time', id), []);
    t.deepEqual(told.pointsOf('sculptor.cpu.wakeups', id), []);
    t.is(told.agent.settings().readIntervalSeconds, 1);
  } finally {
    await scene.end();
    await told.stop();
  }
  t.deepEqual(bpftraces(), [], 'no bpftrace of this process is left');
});

function bpftraces(): string[] {
  return readdirSync('/proc').filter(name => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const [, after = ''] = readFileSync(`/proc/${name}/stat`, 'utf8').split(') ');
      return after.split(' ')[1] === String(process.pid);
    } catch {
      // It ended between the two.
      return false;
    }
  });
}
