/**
 * `node crash-child.ts JOURNAL POINT MOVES`: carries one action out on the real kernel and stops for ever at the point:
 * `journalled` (old values on disk, nothing set), `mid-apply` (some set), `observing` (all set). Says `there` then.
 */
import { writeSync } from 'node:fs';
import type { Move } from '../../../src/contract/recommendation.ts';
import { loadNative } from '../../../src/linux/native.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { createActionLog } from '../../../src/sculptor/action-log.ts';
import { applyPlan } from '../../../src/sculptor/apply.ts';
import { openJournal } from '../../../src/sculptor/journal.ts';
import { bootId, openKernel } from '../../../src/sculptor/kernel.ts';
import { planOf } from '../../../src/sculptor/plan.ts';
import { realTime } from '../../support/sockets.ts';
import { recommend } from './recommend.ts';

const [, , path = '', point = '', text = '[]'] = process.argv;
const moves = JSON.parse(text) as Move[];
const native = loadNative();

function stopHere(): never {
  writeSync(1, 'there\n');
  // The parent kills this process with SIGKILL while it waits: nothing of it runs again.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000);
}

const { kernel: real } = openKernel(native, hostRoots, () => undefined);
let calls = 0;
const kernel = {
  ...real,
  native: {
    getAffinity: native.getAffinity,
    setAffinity: (tids: Int32Array, cpus: Int32Array): Int32Array => {
      calls += 1;
      if (point !== 'mid-apply') return native.setAffinity(tids, cpus);
      const half = native.setAffinity(tids.slice(0, Math.ceil(tids.length / 2)), cpus);
      return half && stopHere();
    },
  },
};
const journal = openJournal(path, bootId(hostRoots), hostRoots);
const now = Date.now() / 1000;
const recommendation = recommend(now, moves[0]?.instance.id ?? '/', moves);
const log = createActionLog({ hostId: 'host-1', clock: realTime, emit: () => undefined });
const action = log.begin(recommendation, 'enforce');
const plan = planOf(kernel, recommendation);
const stopping =
  point === 'journalled'
    ? {
        openEntries: (...args: Parameters<typeof journal.openEntries>) => {
          journal.openEntries(...args);
          stopHere();
        },
      }
    : journal;
applyPlan(kernel, stopping, realTime, action, plan);
if (calls >= 0) stopHere();
