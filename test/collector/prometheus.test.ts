import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { needs } from '../support/needs.ts';
import { endChild, eventually, stageScene } from '../support/scene.ts';
import { buildCollector, fetchPrometheus, freePort, startCollector } from './support/collector.ts';

const sculpt = new URL('../../bin/sculpt', import.meta.url).pathname;
const instances = 200;

const collector = buildCollector();
const prometheus = fetchPrometheus();
const lacking = [collector, prometheus].filter(({ binary }) => binary === null);
for (const { why } of lacking) console.error(`# skipped: ${why}`);
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
    const port = await freePort();
    const { child } = await startCollector({
      binary: String(collector.binary),
      run,
      prometheusPort: port,
      // Neither engine nor sculptor is there.
      edit: shipped => shipped.replace('[otlp/engine, otlp/sculptor, prometheus]', '[prometheus]'),
      listens: 'pipeline.sock',
    });
    children.push(child, startAgent(run));
    const asked = await startPrometheus(run, port, children);

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
    for (const part of ['agent', 'middle', 'prometheus']) {
      const log = join(run, `${part}.log`);
      if (existsSync(log)) t.log(`${part}: ${readFileSync(log, 'utf8').slice(-2000)}`);
    }
    throw error;
  } finally {
    await Promise.all(children.map(endChild));
    await scene.end();
    rmSync(run, { recursive: true });
  }
});

function startAgent(run: string): ChildProcess {
  const config = {
    agent: {
      endpoint: `unix://${run}/pipeline.sock`,
      apiSocket: `${run}/agent-api.sock`,
      detailIntervalSeconds: 3,
    },
  };
  writeFileSync(join(run, 'sculpt.yaml'), JSON.stringify(config));
  const log = openSync(join(run, 'agent.log'), 'a');
  return spawn(sculpt, ['agent', '--config', join(run, 'sculpt.yaml')], {
    stdio: ['ignore', log, log],
  });
}

type Sample = { readonly labels: Readonly<Record<string, string>>; readonly value: number };
type Ask = (query: string) => Promise<Sample[]>;

/** @see https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries */
const answer = z.object({
  data: z.object({
    result: z.array(
      z.object({
        metric: z.record(z.string(), z.string()),
        value: z.tuple([z.number(), z.string()]),
      }),
    ),
  }),
});

async function startPrometheus(run: string, from: number, children: ChildProcess[]): Promise<Ask> {
  const port = await freePort();
  writeFileSync(
    join(run, 'prometheus.yml'),
    JSON.stringify({
      global: { scrape_interval: '1s' },
      scrape_configs: [
        {
          job_name: 'sculptor',
          honor_labels: true,
          static_configs: [{ targets: [`127.0.0.1:${from}`] }],
        },
      ],
    }),
  );
  const log = openSync(join(run, 'prometheus.log'), 'a');
  children.push(
    spawn(
      String(prometheus.binary),
      [
        `--config.file=${run}/prometheus.yml`,
        `--storage.tsdb.path=${run}/data`,
        `--web.listen-address=127.0.0.1:${port}`,
      ],
      { stdio: ['ignore', log, log] },
    ),
  );
  const ask: Ask = async query => {
    const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(query)}`;
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${query}: ${await response.text()}`);
    const { data } = answer.parse(await response.json());
    return data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
  };
  await eventually('Prometheus answers', 30, () => ask('up').catch(() => null));
  return ask;
}

async function one(ask: Ask, query: string): Promise<number | undefined> {
  return (await ask(query))[0]?.value;
}
