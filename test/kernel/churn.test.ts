import { churn } from '../support/churn.ts';
import { needs } from '../support/needs.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'cgroupV1Memory');

test('a thousand threads that come and go in twenty cgroups that do', async t => {
  await churn(t, {
    ...{ cgroups: 20, threads: 1000, threadsPerSecond: 600, cgroupsPerSecond: 3 },
    // V8 learns while it settles: what it makes of that is no growth.
    ...{ settleSeconds: 6, seconds: 6, detailIntervalSeconds: 1 },
  });
});
