import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import fc from 'fast-check';
import type { Action } from '../../src/contract/action.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { createActionLog } from '../../src/sculptor/action-log.ts';
import type { UndoEntry } from '../../src/sculptor/actuators/actuator.ts';
import { openJournal } from '../../src/sculptor/journal.ts';
import { planOf } from '../../src/sculptor/plan.ts';
import { restoreOpen } from '../../src/sculptor/restore.ts';
import { steppedClock } from '../support/stepped-clock.ts';
import { move } from './support/cgroup-lab.ts';
import { fakeHost } from './support/fake-host.ts';
import { recommend } from './support/recommend.ts';

function folderOf(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-journal-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function someAction(): Action {
  const clock = steppedClock();
  const log = createActionLog({ hostId: 'host-1', clock, emit: () => undefined });
  return log.begin(recommend(clock.unixSeconds(), '/a', [move('/a', { weight: 5 })]), 'enforce');
}

const entry: UndoEntry = {
  ...{ resource: 'cgroup:/a:cpu.weight', kind: 'weight', key: '/a', identity: 1 },
  ...{ before: '100', wanted: '5', ownMask: null, tgid: 0 },
} as const;

test('entries are read back exactly after the file was opened again', t => {
  const path = join(folderOf(t), 'deep', 'journal.db');
  const action = someAction();
  const first = openJournal(path, 'boot-1', hostRoots);
  const entries = [entry, { ...entry, kind: 'affinity' as const, ownMask: false, before: '' }];
  first.openEntries(action, 0, entries);
  first.close();
  const again = openJournal(path, 'boot-1', hostRoots);
  const [held] = again.openActions();
  t.is(held?.boot, 'boot-1');
  t.deepEqual(held?.action, action);
  t.deepEqual(
    held?.entries.map(({ action: _, order: __, ...rest }) => rest),
    entries,
  );
  again.close();
});

test('open actions come in the order in which they began, whatever became of them since', t => {
  const journal = openJournal(join(folderOf(t), 'journal.db'), 'boot-1', hostRoots);
  const [first, second] = [someAction(), someAction()];
  journal.openEntries(first, 0, [entry]);
  journal.openEntries(second, 0, [entry]);
  journal.saveAction({ ...first, at: second.at + 60 });
  t.deepEqual(
    journal.openActions().map(({ id }) => id),
    [first.id, second.id],
  );
  journal.close();
});

test('a corrupt, a foreign and a newer file are refused with what to do', t => {
  const folder = folderOf(t);
  const noise = join(folder, 'noise.db');
  writeFileSync(noise, 'this is no database '.repeat(100));
  t.throws(() => openJournal(noise, 'b', hostRoots), { code: 'JOURNAL', message: /move it away/ });

  const foreign = join(folder, 'foreign.db');
  const db = new DatabaseSync(foreign);
  db.exec('CREATE TABLE cats (name TEXT)');
  db.close();
  t.throws(() => openJournal(foreign, 'b', hostRoots), {
    code: 'JOURNAL',
    message: /of something else/,
  });

  const newer = join(folder, 'newer.db');
  openJournal(newer, 'b', hostRoots).close();
  const changed = new DatabaseSync(newer);
  changed.exec('PRAGMA user_version = 99');
  changed.close();
  t.throws(() => openJournal(newer, 'b', hostRoots), {
    code: 'JOURNAL',
    message: /schema 99; wanted 1/,
  });

  const cut = join(folder, 'cut.db');
  const journal = openJournal(cut, 'b', hostRoots);
  for (let i = 0; i < 200; i += 1) journal.see(`${i}`.padStart(300, 'x'), 1);
  journal.close();
  truncateSync(cut, 8192);
  t.throws(() => openJournal(cut, 'b', hostRoots), { code: 'JOURNAL' });
});

test('a folder that is none is refused with what is wanted', t => {
  const folder = folderOf(t);
  writeFileSync(join(folder, 'file'), '');
  t.throws(() => openJournal(join(folder, 'file', 'journal.db'), 'b', hostRoots), {
    code: 'JOURNAL',
    message: /may write/,
  });
});

test('ids are seen once until they expire, and what is over is forgotten', t => {
  const journal = openJournal(join(folderOf(t), 'journal.db'), 'b', hostRoots);
  t.true(journal.see('x', 100));
  t.false(journal.see('x', 100));
  journal.prune(101);
  t.true(journal.see('x', 200));
  for (let i = 0; i < 1100; i += 1)
    journal.saveAction({ ...someAction(), state: 'restored', at: 1000 + i });
  journal.openEntries(someAction(), 0, [entry]);
  journal.prune(101);
  t.is(journal.recentActions(5000).length, 1001);
  t.is(journal.openActions().length, 1);
  journal.close();
});

test('whatever prefix of an action was applied when it crashed, replay gives everything back, twice as well as once', t => {
  const host = fakeHost(t);
  const names = ['p', 'q', 'r'];
  for (const [i, name] of names.entries()) host.makeCgroup(name, [100 + i, 200 + i]);
  const weights = fc.array(fc.integer({ min: 1, max: 10_000 }), { minLength: 3, maxLength: 3 });
  const masks = fc.uniqueArray(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(
      weights,
      weights,
      masks,
      fc.nat(12),
      fc.nat(12),
      (old, wanted, cpus, applied, undone) => {
        for (const [i, name] of names.entries()) host.write(name, 'cpu.weight', String(old[i]));
        for (const [tid, thread] of host.threads)
          host.threads.set(tid, { ...thread, cpus: [0, 1, 2, 3], own: tid >= 200 });
        const sorted = [...cpus].sort((a, b) => a - b);
        const moves = names.flatMap((name, i) => [
          move(`/${name}`, { weight: wanted[i] ?? 1 }),
          move(`/${name}`, { cpus: sorted }),
        ]);
        const plan = planOf(host.kernel, { moves });
        host.journal.openEntries(someAction(), 0, plan.entries);
        const set = (entries: readonly UndoEntry[], value: (each: UndoEntry) => string) => {
          for (const each of entries) {
            if (each.kind === 'weight') host.write(each.key.slice(1), 'cpu.weight', value(each));
            if (each.kind === 'affinity')
              host.kernel.native.setAffinity(
                Int32Array.of(Number(each.key)),
                Int32Array.from(sorted),
              );
          }
        };
        set(plan.entries.slice(0, applied), each => each.wanted);
        // A former undo may have got this far from the end.
        const half = plan.entries.slice(0, applied).slice(-undone);
        set(undone === 0 ? [] : half.filter(each => each.kind === 'weight'), each => each.before);
        const end = { reason: { code: 'user', message: 'x' } as const, at: 1 };
        for (const round of [1, 2]) {
          const report = restoreOpen(host.kernel, host.journal, () => undefined, end);
          t.is(report.failed, 0, `round ${round}: ${report.messages.join()}`);
        }
        return (
          names.every((name, i) => host.read(name, 'cpu.weight') === String(old[i])) &&
          [...host.threads.values()].every(thread => thread.cpus.join() === '0,1,2,3')
        );
      },
    ),
    { numRuns: 50, seed: 7 },
  );
});

test('a disk that fills up while everything is given back hides nothing of what was', async t => {
  const host = fakeHost(t, { policy: { limits: { maxTouchedRatio: 1 } } });
  host.makeCgroup('a', [11]);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  await host.heartbeat('enforce');
  await host.recommend(recommend(host.clock.unixSeconds(), '/a', [move('/a', { weight: 6400 })]));
  host.journal.db.exec('PRAGMA query_only = 1');
  const said: string[] = [];
  const end = { reason: { code: 'user', message: 'x' } as const, at: 1 };
  const report = restoreOpen(host.kernel, host.journal, (_, text) => void said.push(text), end);
  t.is(report.restored, 1);
  t.regex(said.join(), /could not be closed in the journal.*could not be recorded so: .*readonly/);
  t.is(host.read('a', 'cpu.weight'), '100');
});

test('what another boot left ended with it, also on a disk that is full', t => {
  const host = fakeHost(t);
  host.journal.openEntries(someAction(), 0, [entry]);
  writeFileSync(join(host.kernel.roots.proc, 'sys/kernel/random/boot_id'), 'boot-2\n');
  host.journal.db.exec('PRAGMA query_only = 1');
  const end = { reason: { code: 'user', message: 'x' } as const, at: 1 };
  const report = restoreOpen(host.kernel, host.journal, () => undefined, end);
  t.is(report.gone, 1);
  t.regex(report.messages.join(), /ended with an earlier boot.*could not be closed in the journal/);
});
