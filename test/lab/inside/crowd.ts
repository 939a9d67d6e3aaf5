/**
 * The agent as a process beside 10,000 threads in 200 cgroups, on the kernel it is started on; prints one JSON object
 * (`CrowdLab`). It asserts nothing: the test outside does.
 */
import { mkdtempSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { startAgentProcess } from '../../../bench/agent-process.ts';
import { order, quiet, stageCrowd } from '../../../bench/crowd.ts';
import { type Rollup, rollupOf } from '../../../bench/rollup.ts';
import { openStage } from '../../../src/cli/demo/stage.ts';

export type CrowdLab = {
  /** Switches of the threads, by their own account, and how far what was told is off it. */
  readonly switches: number;
  readonly rollup: Rollup;
  readonly lost: Readonly<Record<string, number>>;
  readonly recovered: number;
};

const stage = openStage('sculptor-crowd');
await stageCrowd(stage, {
  instances: 200,
  threadsEach: 50,
  wakersEach: 10,
  // What an emulated CPU has time for.
  wakeupsPerSecond: 1000,
  burnUs: 20,
});
const agent = await startAgentProcess(mkdtempSync('/tmp/crowd-'));
try {
  const from = await quiet(stage, agent);
  await order(stage, 'go', agent);
  await sleep(60_000);
  await order(stage, 'rest', agent);
  const to = await quiet(stage, agent);
  const switchesOf = ({ threads }: typeof from) =>
    [...threads.values()].reduce((sum, { switches }) => sum + switches, 0);
  const lab: CrowdLab = {
    switches: switchesOf(to) - switchesOf(from),
    rollup: rollupOf(from, to),
    lost: to.sink.lost,
    recovered: to.sink.recovered,
  };
  console.log(JSON.stringify(lab));
} finally {
  await agent.stop();
  await stage.clear();
}
