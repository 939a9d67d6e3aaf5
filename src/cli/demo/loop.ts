import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Action } from '../../contract/action.ts';
import { configSchema } from '../../contract/config.ts';
import { ConfigError, KernelInterfaceError } from '../../contract/errors.ts';
import type { Mode } from '../../contract/policy.ts';
import type { Recommendation } from '../../contract/recommendation.ts';
import { askParts, type Parts, type Verdict } from '../ask.ts';
import { inRunDir } from '../run-dir.ts';

/** The whole loop as a process of its own (`sculpt up`), and what its sockets answer. */
export type Loop = {
  /** The stamp of its embedded pipeline. */
  readonly stamp: (mode: Mode) => Promise<void>;
  readonly actions: () => Promise<Action[]>;
  readonly recommendations: () => Promise<Recommendation[]>;
  readonly verdicts: () => Promise<Verdict[]>;
  /** What it said so far. */
  readonly log: () => string;
  /** SIGTERM, which restores everything, and waits for the end. Calling it again does nothing. */
  readonly stop: () => Promise<void>;
};

const main = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../main.ts' : '../main.js', import.meta.url),
);

/**
 * Starts `sculpt up` with a policy, in a folder that is removed again when it stops.
 * @throws ConfigError CONFIG_NOT_RUNNING with the last lines that it said; KernelInterfaceError where the scheduler cannot be asked
 */
export async function startLoop(
  policy: unknown,
  { startSeconds = 30, answerSeconds = 10 }: { startSeconds?: number; answerSeconds?: number } = {},
): Promise<Loop> {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-run-'));
  const configFile = join(folder, 'sculpt.yaml');
  // JSON is YAML.
  writeFileSync(
    configFile,
    JSON.stringify({ sculptor: { journal: join(folder, 'journal.db'), policy } }),
  );
  const logFile = join(folder, 'log');
  const log = openSync(logFile, 'a');
  const child = spawn(
    process.execPath,
    [
      // As bin/sculpt starts it.
      ...['--disable-sigusr1', '--disable-warning=ExperimentalWarning'],
      ...[main, 'up', '--until-stdin-ends'],
      ...['--config', configFile, '--run-dir', folder],
    ],
    // A group of its own: Ctrl-C is for the demo, which stops it in order. Its end is also the end of this pipe.
    { stdio: ['pipe', log, log], detached: true },
  );
  const parts = askParts(inRunDir(configSchema.parse({}), folder), answerSeconds);
  const loop = loopOf(child, folder, parts, () => readFileSync(logFile, 'utf8'));
  try {
    await waitUntilUp(loop, child, startSeconds);
    mustTell((await parts.agentStatus()).sources['sched'] ?? 'unknown');
  } catch (error) {
    await loop.stop();
    throw error;
  }
  return loop;
}

/** The loop runs on without the scheduler, and would recommend nothing. */
function mustTell(scheduler: string): void {
  if (scheduler === 'running') return;
  throw new KernelInterfaceError(
    'KERNEL_MISSING',
    `without the scheduler nothing is recommended: ${scheduler}`,
  );
}

function loopOf(child: ChildProcess, folder: string, parts: Parts, log: () => string): Loop {
  return {
    stamp: async mode => {
      await parts.setStamp(mode);
    },
    actions: parts.actions,
    recommendations: parts.recommendations,
    verdicts: parts.verdicts,
    log: () => (existsSync(folder) ? `${log()}${ending(child)}` : ''),
    stop: async () => {
      await endGently(child);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function ending({ exitCode, signalCode }: ChildProcess): string {
  if (exitCode === null && signalCode === null) return '';
  return `sculpt up ended (${signalCode ?? `exit code ${exitCode}`})\n`;
}

async function waitUntilUp(loop: Loop, child: ChildProcess, startSeconds: number): Promise<void> {
  for (const deadline = performance.now() + startSeconds * 1000; ; ) {
    try {
      await loop.actions();
      await loop.verdicts();
      return;
    } catch (cause) {
      const ended = child.exitCode !== null || child.signalCode !== null;
      if (ended || performance.now() > deadline) {
        const why = ended ? 'it ended' : `it does not answer after ${startSeconds} s`;
        const said = loop.log().trim().split('\n').slice(-25).join('\n');
        throw new ConfigError('CONFIG_NOT_RUNNING', `sculpt up: ${why}:\n${said}`, {}, cause);
      }
      await sleep(100);
    }
  }
}

const stopSeconds = 15;

async function endGently(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise(resolve => child.once('exit', resolve));
  child.kill('SIGTERM');
  const late = setTimeout(() => child.kill('SIGKILL'), stopSeconds * 1000);
  await ended;
  clearTimeout(late);
}
