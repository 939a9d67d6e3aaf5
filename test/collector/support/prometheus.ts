import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import * as z from 'zod';
import { eventually } from '../../support/scene.ts';
import { buildCollector, fetchPrometheus, freePort, startCollector } from './collector.ts';

const sculpt = new URL('../../../bin/sculpt', import.meta.url).pathname;

const collector = buildCollector();
const prometheus = fetchPrometheus();

/** Why this machine has not got them, if so. */
export const lacking: readonly string[] = [collector, prometheus]
  .filter(({ binary }) => binary === null)
  .map(({ why }) => why);

type Answer = { readonly labels: Readonly<Record<string, string>>; readonly value: number };
/** Asks the Prometheus now. @throws with its own words where it refuses the query */
export type Ask = (query: string) => Promise<Answer[]>;

/** Starts agent, collector and Prometheus, each told of the next, in a folder where their logs are. `children`: gets them. */
export async function startTelling(run: string, children: ChildProcess[]): Promise<Ask> {
  const ask = await startBackend(run, children);
  children.push(startAgent(run));
  return ask;
}

/** The same without the agent: what is told to `pipeline.sock` in the folder arrives. */
export async function startBackend(run: string, children: ChildProcess[]): Promise<Ask> {
  const port = await freePort();
  const { child } = await startCollector({
    binary: String(collector.binary),
    run,
    prometheusPort: port,
    // Neither engine nor sculptor is there.
    edit: shipped => shipped.replace('[otlp/engine, otlp/sculptor, prometheus]', '[prometheus]'),
    listens: 'pipeline.sock',
  });
  children.push(child);
  return startPrometheus(run, port, children);
}

/** The ends of all logs, for who reads of a failure. */
export function logEnds(t: ExecutionContext, run: string): void {
  for (const part of ['agent', 'middle', 'prometheus']) {
    const log = join(run, `${part}.log`);
    if (existsSync(log)) t.log(`${part}: ${readFileSync(log, 'utf8').slice(-2000)}`);
  }
}

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
