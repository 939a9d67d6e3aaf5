import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { needs } from '../support/needs.ts';
import { endChild, eventually, stageScene } from '../support/scene.ts';
import { type Ask, lacking, logEnds, startTelling } from './support/prometheus.ts';

const instances = 200;

for (const why of lacking) console.error(`# skipped: ${why}`);
const machineTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu');
const test = lacking.length === 0 ? machineTest : machineTest.skip;

test('200 instances are 200 sets of series in Prometheus, and no counter of them is ever reset', async t => {
  t.timeout(180_000);
  const run = mkdtempSync(join(tmpdir(), 'sculptor-prometheus-'));
  const scene = stageScene('sculptor-prometheus');
  const children: ChildProcess[] = [];
  try {
    for (let i = 0; i < instances; i += 1)
      scene.spawn(String(i), 'latency', '--period-us', '100000', '--burn-us', '50');
    const asked = await startTelling(run, children);

    const ours = `sculptor_instance_id=~"${scene.id('.*')}"`;
    const metric = (name: string) => `${name}{${ours}}`;
    await eventually('all instances with their details', 60, async () => {
      const counted = await asked(`count(${metric('sculptor_cpu_wakeups_total')} > 0)`);
      return counted[0]?.value === instances ? true : null;
    });
    await sleep(20_000);

    // One series each of what has no attributes; and each moves.
    for (const name of [
      'container_cpu_time_seconds_total',
      'sculptor_runqueue_wait_seconds_total',
      'sculptor_runqueue_latency_seconds_count',
      'sculptor_cpu_wakeups_total',
    ]) {
      t.is(await one(asked, `count(${metric(name)})`), instances, name);
      t.is(await one(asked, `count(count by (sculptor_instance_id) (${metric(name)}))`), instances);
      t.is(await one(asked, `count(count by (service_instance_id) (${metric(name)}))`), instances);
      t.is(await one(asked, `count(increase(${metric(name)}[15s]) > 0)`), instances, name);
    }
    // Whatever the agent tells of them: counters, and the parts of histograms.
    const counters = `{${ours}, __name__=~".+_(total|count|sum|bucket)"}`;
    const names = await asked(`count by (__name__) (${counters})`);
    for (const { labels } of names)
      t.is(await one(asked, `sum(resets(${metric(String(labels['__name__']))}[2m]))`), 0);
    t.log(
      `${names.length} metrics of counters`,
      `${names.reduce((n, { value }) => n + value, 0)} series`,
    );
    t.true(names.length >= 10);
  } catch (error) {
    logEnds(t, run);
    throw error;
  } finally {
    await Promise.all(children.map(endChild));
    await scene.end();
    rmSync(run, { recursive: true });
  }
});

async function one(ask: Ask, query: string): Promise<number | undefined> {
  return (await ask(query))[0]?.value;
}
