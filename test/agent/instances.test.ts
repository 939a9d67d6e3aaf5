import { mkdirSync, mkdtempSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { contended, createInstanceBook, type LivingInstance } from '../../src/agent/instances.ts';
import type { SchedTotals } from '../../src/agent/probes/sched.ts';
import type { CgroupLayout } from '../../src/linux/cgroups.ts';

function tree(t: { teardown: (end: () => void) => void }): CgroupLayout {
  const cpu = mkdtempSync(join(tmpdir(), 'sculptor-cgroups-'));
  t.teardown(() => rmSync(cpu, { recursive: true, force: true }));
  return { version: 1, cpu, cpuset: null };
}

function totals(runNs: number, waitNs = 0): SchedTotals {
  return {
    runNs,
    waitNs,
    throttledNs: 0,
    migrations: 0,
    latencyCount: 0,
    latencySumNs: 0,
    slots: new Float64Array(160),
  };
}

test('an unknown id is named by its folder, and its rates follow', t => {
  const layout = tree(t);
  mkdirSync(`${layout.cpu}/pool/a`, { recursive: true });
  const id = statSync(`${layout.cpu}/pool/a`).ino;
  const book = createInstanceBook(layout);
  const born = book.take(new Map([[id, totals(1e9)]]), 1, 100);
  t.deepEqual(
    born.map(living => living.instance),
    [{ id: '/pool/a', kind: 'cgroup', name: 'a' }],
  );
  book.take(new Map([[id, totals(1.5e9, 1e8)]]), 1, 101);
  t.deepEqual(
    [...book.living()].map(living => living.window),
    [{ usedCores: 0.5, waitCores: 0.1, throttledCores: 0 }],
  );
});

test('a cgroup that is gone is swept once; one made anew under its name is another life', t => {
  const layout = tree(t);
  mkdirSync(`${layout.cpu}/a`);
  const first = statSync(`${layout.cpu}/a`).ino;
  const book = createInstanceBook(layout);
  book.take(new Map([[first, totals(5)]]), 1, 100);
  rmdirSync(`${layout.cpu}/a`);
  mkdirSync(`${layout.cpu}/keeps-the-inode-from-being-reused`);
  mkdirSync(`${layout.cpu}/a`);
  t.deepEqual(
    book.sweep().map(living => living.cgroupId),
    [first],
  );
  t.deepEqual(book.sweep(), []);
  const second = statSync(`${layout.cpu}/a`).ino;
  const [born] = book.take(new Map([[second, totals(1)]]), 1, 200);
  t.is(born?.start, 200);
});

test('what was gone before it could be named is counted once', t => {
  const book = createInstanceBook(tree(t));
  book.take(new Map([[999_999_999, totals(5)]]), 1, 100);
  book.take(new Map([[999_999_999, totals(6)]]), 1, 101);
  t.is(book.unnamed(), 1);
  t.is(book.size(), 0);
});

test('of 25 contended instances the 20 worst are fast, and 5 are counted', t => {
  const living = Array.from({ length: 30 }, (_, i) => ({
    instance: { id: `/${i}`, kind: 'cgroup', name: `${i}` },
    window: { usedCores: 0.5, waitCores: i < 5 ? 0.04 : i / 10, throttledCores: 0 },
  })) as unknown as LivingInstance[];
  const { fast, uncounted } = contended(living, 20);
  t.is(fast.length, 20);
  t.is(uncounted, 5);
  t.is(fast[0]?.instance.id, '/29');
});
