import { spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { askParts, orNull } from '../src/cli/ask.ts';
import { type Config, configSchema } from '../src/contract/config.ts';
import { SculptorError } from '../src/contract/errors.ts';
import { createExportClient } from '../src/otlp/export-client.ts';
import type { Signal } from '../src/otlp/services.ts';
import { exportKeys, generateKeys } from '../src/otlp/signing.ts';
import { type Receiver, startReceiver } from '../test/support/receiver.ts';
import { type BenchResult, median, quantile, rawFolder, type Tell, writeRaw } from './bench.ts';
import { timeFixedWork } from './fixed-work.ts';
import { makeUpHost } from './made-up-host.ts';

const sizes = [200, 1000];
const cpus = 64;
/** It learns who is who, has forecast, and V8 knows what is hot. */
const warmSeconds = 40;
const seconds = 30;
const sculpt = fileURLToPath(new URL('../bin/sculpt', import.meta.url));

/** A request, how long its answer took, and what it was. */
type Answer = { readonly signal: Signal; readonly seconds: number; readonly kind: string };

type Measured = {
  readonly cores: number;
  readonly rssBytes: number;
  readonly answers: readonly Answer[];
  /** Exports of metrics that were not made, since the one before was not answered yet. */
  readonly skipped: number;
  /** Between two heartbeats. */
  readonly longestSilenceSeconds: number;
  readonly instances: number;
  readonly fixedWorkUs: number;
};

/**
 * What `sculpt engine` takes on hosts of many instances: the real process on its real sockets, told at the rates that agents ship with
 * of hosts that are made up.
 */
export async function benchEngineScale(tell: Tell): Promise<BenchResult> {
  const folder = rawFolder('engine-scale');
  const figures: Record<string, unknown> = { cpus, contended: '1 of 20' };
  const targets: Record<string, string> = {};
  for (const size of sizes) {
    tell(`${size} instances, ${warmSeconds + seconds} s`);
    const { answers, rssBytes, ...measured } = await measureOne(size, folder);
    writeRaw(folder, `answers-${size}.jsonl`, answers);
    const times = answers.map(answer => answer.seconds);
    const of = (name: string) => `of_${size}_${name}`;
    figures[of('cores')] = measured.cores;
    figures[of('rss_mb')] = rssBytes / 1e6;
    figures[of('answer_p50_s')] = median(times);
    figures[of('answer_p99_s')] = quantile(times, 0.99);
    figures[of('answer_max_s')] = Math.max(...times);
    figures[of('longest_silence_s')] = measured.longestSilenceSeconds;
    // A sculptor that hears no heartbeat for so long does nothing new.
    targets[of('longest_silence_s')] = '< 3';
    figures[of('exports_skipped')] = measured.skipped;
    figures[of('exports_refused')] = answers.filter(({ kind }) => kind !== 'ok').length;
    figures[of('instances_known')] = measured.instances;
    targets[of('instances_known')] = String(size);
    figures[of('fixed_work_us')] = measured.fixedWorkUs;
  }
  return {
    figures,
    targets,
    overrides: { engine: 'sockets and a key of its own; the host that it is told of is made up' },
    raw: folder,
  };
}

async function measureOne(size: number, folder: string): Promise<Measured> {
  const run = join(folder, String(size));
  const config = configSchema.parse({
    engine: {
      listen: `${run}-engine.sock`,
      endpoint: `unix://${run}-pipeline.sock`,
      apiSocket: `${run}-api.sock`,
      privateKey: `${run}-key.pem`,
    },
  });
  const receiver = await startReceiver(`${run}-pipeline.sock`);
  const engine = await startEngine(config, run);
  try {
    return await feed(size, config, engine.pid, receiver);
  } finally {
    await engine.stop();
    await receiver.stop();
  }
}

async function startEngine(config: Config, run: string) {
  const { engine } = config;
  writeFileSync(`${run}-key.pem`, exportKeys(generateKeys()).privatePem, { mode: 0o600 });
  writeFileSync(`${run}-config.json`, JSON.stringify({ engine }));
  const log = openSync(`${run}-engine.log`, 'w');
  const args = [sculpt, 'engine', '--config', `${run}-config.json`];
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', ...args], {
    // In a session of its own, as a service: so its nice value counts among all.
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  const ended = new Promise(resolve => child.once('exit', resolve));
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await ended;
  };
  const { engineStatus } = askParts(config);
  for (let attempt = 0; (await orNull(engineStatus())) === null; attempt += 1) {
    if (attempt === 600 || child.exitCode !== null) {
      await stop();
      throw new SculptorError('DEMO_FAILED', `the engine did not start: ${run}-engine.log`);
    }
    await sleep(50);
  }
  return { pid: child.pid ?? 0, stop };
}

async function feed(
  size: number,
  config: Config,
  pid: number,
  receiver: Receiver,
): Promise<Measured> {
  const host = makeUpHost(size, cpus);
  const endpoint = `unix://${config.engine.listen}`;
  const clientOf = (signal: Signal) => createExportClient({ endpoint, signal, timeoutSeconds: 60 });
  const clients = { metrics: clientOf('metrics'), logs: clientOf('logs') };
  const answers: Answer[] = [];
  let [skipped, underWay] = [0, 0];
  let isMeasuring = false;

  const send = async (signal: Signal, request: Buffer): Promise<void> => {
    const sent = performance.now();
    const { kind } = await clients[signal].send(request);
    if (isMeasuring) answers.push({ signal, seconds: (performance.now() - sent) / 1000, kind });
  };
  const step = (): void => {
    const told = host.step(Date.now() / 1000);
    for (const request of told.logs) void send('logs', request);
    // As an agent does: one export under way at most.
    if (underWay > 0) {
      if (isMeasuring) skipped += told.metrics.length;
      return;
    }
    for (const request of told.metrics) {
      underWay += 1;
      void send('metrics', request).finally(() => {
        underWay -= 1;
      });
    }
  };

  const timer = setInterval(step, host.stepSeconds * 1000);
  try {
    await sleep(warmSeconds * 1000);
    isMeasuring = true;
    const from = { cpu: cpuSecondsOf(pid), at: performance.now(), wall: Date.now() / 1000 };
    const fixedWorkUs = await timeFixedWork(seconds);
    const cores = (cpuSecondsOf(pid) - from.cpu) / ((performance.now() - from.at) / 1000);
    isMeasuring = false;
    const status = await askParts(config).engineStatus();
    return {
      cores,
      rssBytes: rssOf(pid),
      answers,
      skipped,
      longestSilenceSeconds: longestSilence(receiver, from.wall),
      instances: status.instances,
      fixedWorkUs,
    };
  } finally {
    clearInterval(timer);
    clients.metrics.close();
    clients.logs.close();
  }
}

/** By when they were made; until now, if none came any more. */
function longestSilence({ events }: Receiver, from: number): number {
  const beats = events
    .filter(({ eventName, time }) => eventName === 'sculptor.heartbeat' && time >= from)
    .map(({ time }) => time);
  const all = [from, ...beats, Date.now() / 1000];
  return Math.max(...all.slice(1).map((time, i) => time - (all[i] ?? time)));
}

/** Of all its threads, on CPUs. */
function cpuSecondsOf(pid: number): number {
  const nanoseconds = readdirSync(`/proc/${pid}/task`).map(tid =>
    Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'latin1').split(' ')[0]),
  );
  return nanoseconds.reduce((sum, each) => sum + each, 0) / 1e9;
}

function rssOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  return 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]);
}
