/**
 * Two threads that share a CPU, as the agent tells them by raw tracepoints (`agent.btf`) on the kernel it is started on: where that
 * has BTF it is hidden, and taken as the file, else it is the file that is named. Prints one JSON object (`RunqueueLab`). It asserts
 * nothing: the test outside does.
 */
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { makeBtfLess } from '../../support/btf-less.ts';
import { eventually } from '../../support/scene.ts';
import { coresOf, startTold } from '../../support/told-agent.ts';
import { openTenancy } from './tenancy.ts';

export type RunqueueLab = {
  readonly cgroupVersion: number;
  /** Cores that they ran, and waited for. */
  readonly run: number;
  readonly wait: number;
  /** How many waits the histogram has. */
  readonly latencies: number;
  readonly lost: Readonly<Record<string, number>>;
};

const [btf = '/sys/kernel/btf/vmlinux'] = process.argv.slice(2);
const { roots, remove } = makeBtfLess();
const told = await startTold({ btf, detailIntervalSeconds: 2 }, roots);
const tenancy = openTenancy('sculptor-runqueue');
try {
  const { id } = tenancy.add('two', ['spin', '--threads', '2'], '1');
  await eventually('twelve seconds of series', 120, () =>
    told.pointsOf('sculptor.runqueue.wait', id).length >= 12 ? true : null,
  );
  const histogram = await eventually(
    'the latency histogram',
    60,
    () => told.pointsOf('sculptor.runqueue.latency', id).at(-1)?.value,
  );
  const lab: RunqueueLab = {
    cgroupVersion: readCgroupLayout(hostRoots).version,
    run: coresOf(told.pointsOf('container.cpu.time', id)),
    wait: coresOf(told.pointsOf('sculptor.runqueue.wait', id)),
    latencies: typeof histogram === 'number' ? 0 : histogram.count,
    lost: told.agent.status().lost,
  };
  console.log(JSON.stringify(lab));
} finally {
  await tenancy.clear();
  await told.stop();
  remove();
}
