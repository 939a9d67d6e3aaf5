import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Clock } from '../../src/contract/ports.ts';

/** A folder for the sockets of one test, removed at its end. */
export function socketFolder(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Stands for SO_PEERCRED: everybody is us. */
export const ownUid = (): number => process.getuid?.() ?? 0;

/** The machine's time, for tests over real sockets. */
export const realTime: Clock = {
  unixSeconds: () => Date.now() / 1000,
  monotonicSeconds: () => performance.now() / 1000,
  every: (seconds, run) => {
    const timer = setInterval(run, seconds * 1000);
    return () => clearInterval(timer);
  },
  after: (seconds, run) => {
    const timer = setTimeout(run, seconds * 1000);
    return () => clearTimeout(timer);
  },
};

/** Resolves when the condition holds; rejects after the time. For what another socket does, which has no other signal. */
export async function until(holds: () => boolean, seconds = 5): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`not within ${seconds} s: ${holds}`);
    await new Promise(resolve => setTimeout(resolve, 5));
  }
}
