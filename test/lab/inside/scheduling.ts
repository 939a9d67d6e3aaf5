/**
 * What the scheduler's probe tells of loads of known behaviour, on the kernel it is started on; prints one JSON object
 * (`SchedulingLab`). It asserts nothing: the test outside does, which has seen to it that CPU 1 is slow.
 */
import { writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import {
  type QuotaSeen,
  type Rates,
  type ThreeToOne,
  watchQuota,
  watchRates,
  watchThreeToOne,
} from '../../support/sched-loads.ts';
import {
  endAll,
  endBoxes,
  makeBox,
  spin,
  startPinned,
  startProbe,
  workload,
} from '../../support/sched-scene.ts';

export type SchedulingLab = {
  readonly cgroupVersion: number;
  readonly alone: QuotaSeen;
  readonly beside: QuotaSeen;
  /** On a CPU at half of its highest frequency. */
  readonly slow: QuotaSeen;
  readonly threeToOne: ThreeToOne;
  readonly offCpu: {
    /** Four threads that take one lock in turn. */
    readonly convoy: Rates;
    readonly spinner: Rates;
    /** It copies zeros, in the kernel. */
    readonly copier: Rates;
  };
};

/** Of fifty periods, one that is open counts little: the kernel's accounts tell of those that have ended. */
const seconds = 5;

const layout = readCgroupLayout(hostRoots);
if (layout.version === 2) writeFileSync(`${layout.cpu}/cgroup.subtree_control`, '+cpu');
// One for all: an emulated CPU takes seconds to load it.
const probe = startProbe();
try {
  const lab: SchedulingLab = {
    cgroupVersion: layout.version,
    alone: await scene(() => watchQuota(probe, 'alone', { seconds })),
    beside: await scene(() => watchQuota(probe, 'beside', { seconds })),
    slow: await scene(() => watchQuota(probe, 'beside', { cpu: 1, seconds })),
    threeToOne: await scene(() => watchThreeToOne(probe)),
    offCpu: await scene(watchOffCpu),
  };
  console.log(JSON.stringify(lab));
} finally {
  await endAll();
}

async function watchOffCpu(): Promise<SchedulingLab['offCpu']> {
  const [convoy, spinner, copier] = [makeBox(), makeBox(), makeBox()];
  await startPinned(convoy, 0, workload, 'convoy', '--threads', '4');
  await startPinned(spinner, 3, ...spin);
  await startPinned(copier, 2, 'dd', 'if=/dev/zero', 'of=/dev/null', 'bs=64k');
  await pause(300);
  const [ofConvoy, ofSpinner, ofCopier] = await Promise.all([
    watchRates(probe, convoy),
    watchRates(probe, spinner),
    watchRates(probe, copier),
  ]);
  return { convoy: ofConvoy, spinner: ofSpinner, copier: ofCopier };
}

/** One after another, and none of them beside what another has left. */
async function scene<T>(watch: () => Promise<T>): Promise<T> {
  const seen = await watch();
  await endBoxes();
  return seen;
}
