import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { eventually } from '../../support/scene.ts';

const root = new URL('../../..', import.meta.url).pathname;

/** A binary that a script of ours brings, or why it cannot be had on this machine. */
export type Brought = { readonly binary: string | null; readonly why: string };

/** The real collector, built. */
export const buildCollector = (): Brought => bring('build-collector.sh');

/** The real Prometheus. */
export const fetchPrometheus = (): Brought => bring('fetch-prometheus.sh');

function bring(script: string): Brought {
  const { status, stdout, stderr } = spawnSync('sh', [join(root, 'scripts', script)], {
    encoding: 'utf8',
  });
  // 3: this machine lacks something. Anything else that fails is a failure of ours and must not pass as a skip.
  if (status === 0) return { binary: stdout.trim(), why: '' };
  if (status === 3) return { binary: null, why: stderr.trim() };
  throw new Error(`scripts/${script} failed: ${stderr.slice(-2000)}`);
}

export type Collector = {
  readonly child: ChildProcess;
  /** Writes its file anew and has it loaded. */
  readonly rewrite: (edit: (shipped: string) => string) => void;
};

/** Starts the collector with the shipped configuration, edited, in a folder where its sockets and its log are. */
export async function startCollector(options: {
  readonly binary: string;
  readonly run: string;
  readonly prometheusPort: number;
  readonly edit: (shipped: string) => string;
  /** The socket that tells that it listens. */
  readonly listens: string;
}): Promise<Collector> {
  const { run } = options;
  const file = join(run, 'collector.yaml');
  const shipped = readFileSync(join(root, 'otel-collector/sculptor.yaml'), 'utf8');
  writeFileSync(file, options.edit(shipped));
  const log = openSync(join(run, 'middle.log'), 'a');
  const child = spawn(options.binary, ['--config', file], {
    stdio: ['ignore', log, log],
    env: {
      ...process.env,
      SCULPTOR_RUN: run,
      SCULPTOR_PROMETHEUS_PORT: String(options.prometheusPort),
    },
  });
  await eventually('the collector listens', 20, () =>
    existsSync(join(run, options.listens)) ? true : null,
  );
  return {
    child,
    rewrite: edit => {
      writeFileSync(file, edit(shipped));
      child.kill('SIGHUP');
    },
  };
}

/** A TCP port of the loopback that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise(resolve => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port was given');
  return address.port;
}
