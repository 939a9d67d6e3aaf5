import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { askParts, orNull, type Parts } from '../src/cli/ask.ts';
import type { AgentSettings } from '../src/contract/agent-settings.ts';
import { configSchema } from '../src/contract/config.ts';
import { SculptorError } from '../src/contract/errors.ts';
import { readText } from '../src/linux/read-file.ts';
import type { SinkReading } from './sink.ts';

/** The compiled agent as a process, telling a sink in another one. */
export type AgentProcess = {
  readonly pid: number;
  readonly ask: Parts;
  /** What the sink has got. */
  readonly received: () => Promise<SinkReading>;
  readonly stop: () => Promise<void>;
};

const sculpt = fileURLToPath(new URL('../bin/sculpt', import.meta.url));
const sinkFile = fileURLToPath(new URL('./sink.ts', import.meta.url));

/**
 * Starts both, as they are shipped, with their sockets and the agent's log in a folder; `environment`: of its process; `cgroup`: a folder,
 * in which it begins; `settings`: of its section of the configuration, beside the shipped ones.
 */
export async function startAgentProcess(
  folder: string,
  environment: Readonly<Record<string, string>> = {},
  cgroup?: string,
  settings: Partial<AgentSettings> = {},
): Promise<AgentProcess> {
  const config = configSchema.parse({
    agent: { endpoint: `unix://${folder}/sink.sock`, apiSocket: `${folder}/agent-api.sock` },
  });
  const { endpoint, apiSocket } = config.agent;
  // While it starts it listens already, and does not answer: an emulated CPU verifies programs for a quarter of a minute.
  const ask = askParts(config, 60);
  const file = join(folder, 'config.json');
  writeFileSync(file, JSON.stringify({ agent: { ...settings, endpoint, apiSocket } }));
  const sink = fork(sinkFile, [`${folder}/sink.sock`]);
  await nextMessage(sink);
  const log = openSync(join(folder, 'agent.log'), 'w');
  const enter = cgroup === undefined ? '' : `echo $$ > ${cgroup}/cgroup.procs && `;
  const command = ['sh', '-c', `${enter}exec "$0" "$@"`, sculpt, 'agent', '--config', file];
  const agent = spawn('setpriv', ['--pdeathsig', 'TERM', ...command], {
    // In a session of its own, as a service: so its nice value counts among all.
    detached: true,
    stdio: ['ignore', log, log],
    // Of tests, whose cache is not shipped.
    env: { ...process.env, NODE_DISABLE_COMPILE_CACHE: '1', ...environment },
  });
  closeSync(log);
  const stop = async () => {
    await ended(agent, () => agent.kill('SIGTERM'));
    await ended(sink, () => sink.disconnect());
  };
  try {
    for (let attempt = 0; (await orNull(ask.agentStatus())) === null; attempt += 1) {
      if (attempt === 1200 || agent.exitCode !== null)
        throw new SculptorError('DEMO_FAILED', `the agent did not start: ${folder}/agent.log`);
      await sleep(50);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  const readSink = async (): Promise<SinkReading> => {
    const answer = nextMessage(sink);
    sink.send('read');
    return (await answer) as SinkReading;
  };
  // One after the other, whoever asks: an answer does not say to whom it is.
  let last: Promise<unknown> = Promise.resolve();
  return {
    pid: agent.pid ?? 0,
    ask,
    received: () => {
      const reading = last.then(readSink);
      last = reading.catch(() => undefined);
      return reading;
    },
    stop,
  };
}

/** Whatever it says next; rejects when it ends. */
function nextMessage(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const end = (code: number | null) => reject(new Error(`the sink has ended (${code})`));
    child.once('exit', end);
    child.once('message', message => {
      child.off('exit', end);
      resolve(message);
    });
  });
}

async function ended(child: ChildProcess, end: () => void): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise(resolve => child.once('exit', resolve));
  end();
  await exit;
}

/**
 * A task's storage: struct task_state with its element's head, and what lists the elements of a task. As /proc/slabinfo had it
 * on 6.18 after the agent's start beside 10,000 threads: that many more of kmalloc-cg-256 and of kmalloc-cg-192.
 */
export const taskStorageBytes = 256 + 192;

/** Of a process, from outside. `bpfMapBytes`: of its maps, as their descriptors tell it; not what tasks carry. */
export type ProcessReading = {
  readonly at: number;
  readonly userSeconds: number;
  readonly kernelSeconds: number;
  readonly rssBytes: number;
  /** Without pages of files, which are the same ones for every Node of the host. */
  readonly rssOwnBytes: number;
  readonly bpfMapBytes: number;
  readonly bpfProgramBytes: number;
};

const ticksPerSecond = 100;

export function readProcess(pid: number): ProcessReading {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const bytesOf = (what: string) =>
    1024 * Number(new RegExp(`^${what}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]);
  return {
    at: performance.now() / 1000,
    userSeconds: Number(fields[11]) / ticksPerSecond,
    kernelSeconds: Number(fields[12]) / ticksPerSecond,
    rssBytes: bytesOf('VmRSS'),
    rssOwnBytes: bytesOf('RssAnon'),
    bpfMapBytes: sum(bpfOf(pid, 'map').values()),
    bpfProgramBytes: sum(bpfOf(pid, 'prog').values()),
  };
}

/** Bytes of the BPF objects that a process holds, by id. */
export function bpfOf(pid: number, kind: 'map' | 'prog'): Map<number, number> {
  const folder = `/proc/${pid}/fdinfo`;
  const bytes = new Map<number, number>();
  for (const fd of readdirSync(folder)) {
    const text = readText(`${folder}/${fd}`) ?? '';
    const id = new RegExp(`^${kind}_id:\\s+(\\d+)$`, 'm').exec(text)?.[1];
    const size = /^memlock:\s+(\d+)$/m.exec(text)?.[1];
    if (id !== undefined && size !== undefined) bytes.set(Number(id), Number(size));
  }
  return bytes;
}

type ShownProgram = { id: number; name?: string; run_cnt?: number; run_time_ns?: number };

/** ns and runs of each BPF program of a process since bpf_stats was turned on first. */
export function readPrograms(pid: number): Map<string, { runs: number; runNs: number }> {
  const held = bpfOf(pid, 'prog');
  const shown = JSON.parse(
    execFileSync('/usr/sbin/bpftool', ['prog', 'show', '-j'], { encoding: 'utf8' }),
  ) as ShownProgram[];
  return new Map(
    shown
      .filter(({ id }) => held.has(id))
      .map(({ id, name, run_cnt, run_time_ns }) => [
        `${name} ${id}`,
        { runs: run_cnt ?? 0, runNs: run_time_ns ?? 0 },
      ]),
  );
}

function sum(values: Iterable<number>): number {
  return [...values].reduce((total, value) => total + value, 0);
}
