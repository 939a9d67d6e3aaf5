/**
 * Two threads that share a CPU, and one that walks through memory, as `agent.driver: bpftrace` tells them on the kernel it is started on; prints one JSON object
 * (`BpftraceLab`). It asserts nothing: the test outside does.
 */
import type { Outlier } from '../../../src/contract/outlier.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { eventually } from '../../support/scene.ts';
import { coresOf, startTold } from '../../support/told-agent.ts';
import { openTenancy } from './tenancy.ts';

export type BpftraceLab = {
  readonly cgroupVersion: number;
  /** Cores that they ran, and waited for. */
  readonly run: number;
  readonly wait: number;
  /** How many waits the histogram has. */
  readonly latencies: number;
  /** Of a walk through 64 MB. */
  readonly faults: number;
  /** One wait of theirs past 1 ms. */
  readonly outlier: Outlier;
  /** What became of those found, by reason. */
  readonly outliers: Readonly<Record<string, number>>;
  readonly lost: Readonly<Record<string, number>>;
};

const told = await startTold({ driver: 'bpftrace', detailIntervalSeconds: 2 });
const tenancy = openTenancy('sculptor-bpftrace');
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
  await eventually('the source of faults runs', 120, () =>
    told.agent.status().sources['faults'] === 'running' ? true : null,
  );
  const walker = tenancy.add('walker', ['walk', '--mb', '64']).id;
  const faults = await eventually('the faults of a walk', 60, () => {
    const value = told
      .pointsOf('sculptor.memory.fault.latency', walker)
      .filter(({ attributes }) => attributes['system.paging.fault.type'] === 'minor')
      .at(-1)?.value;
    return typeof value === 'object' && value.count >= 16_384 ? value.count : null;
  });
  told.agent.change({
    ...told.agent.settings(),
    outliers: { aboveSeconds: 0.001, perInstancePerSecond: 5 },
  });
  const outlier = await eventually('a wait of one for the other', 120, () =>
    told
      .outliers()
      .find(({ task, preemptor }) => task.instance === id && preemptor?.instance === id),
  );
  const outliers = await eventually('the counts of waits', 60, () => {
    const counts = Object.fromEntries(
      told
        .pointsOf('sculptor.agent.outliers', 'test-host')
        .map(({ attributes, value }) => [attributes['sculptor.reason'], Number(value)]),
    );
    return (counts['told'] ?? 0) > 0 ? counts : null;
  });
  const lab: BpftraceLab = {
    cgroupVersion: readCgroupLayout(hostRoots).version,
    run: coresOf(told.pointsOf('container.cpu.time', id)),
    wait: coresOf(told.pointsOf('sculptor.runqueue.wait', id)),
    latencies: typeof histogram === 'number' ? 0 : histogram.count,
    faults,
    outlier,
    outliers,
    lost: told.agent.status().lost,
  };
  console.log(JSON.stringify(lab));
} finally {
  await tenancy.clear();
  await told.stop();
}
