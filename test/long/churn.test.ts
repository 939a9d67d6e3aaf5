import { churn } from '../support/churn.ts';
import { needs } from '../support/needs.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'cgroupV1Memory');

test('ten minutes of 2,000 threads a second that come and go in 200 cgroups that do', async t => {
  t.timeout(900_000);
  await churn(t, {
    ...{ cgroups: 200, threads: 10_000, threadsPerSecond: 2000, cgroupsPerSecond: 1 },
    ...{ settleSeconds: 60, seconds: 600 },
  });
});
