import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
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
import { undoEntries } from '../../src/sculptor/undo.ts';
import { steppedClock } from '../support/stepped-clock.ts';
import { move } from './support/cgroup-lab.ts';
import { fakeHost } from './support/fake-host.ts';
import { recommend } from './support/recommend.ts';

function folderOf(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-journal-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Empty where it is closed by now. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
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
  for (const [name, value] of Object.entries({ journal_mode: 'wal', synchronous: 2 }))
    t.is(again.db.prepare(`PRAGMA ${name}`).get()?.[name], value, name);
  t.is(statSync(dirname(path)).mode & 0o777, 0o700);
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

test('a corrupt, a foreign, an older and a newer file are refused with what to do, and not kept open', t => {
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

  const versions = join(folder, 'versions.db');
  openJournal(versions, 'b', hostRoots).close();
  for (const version of [0, 99]) {
    const changed = new DatabaseSync(versions);
    changed.exec(`PRAGMA user_version = ${version}`);
    changed.close();
    const message = new RegExp(`schema ${version}; wanted 1`);
    t.throws(() => openJournal(versions, 'b', hostRoots), { code: 'JOURNAL', message });
  }

  const cut = join(folder, 'cut.db');
  const journal = openJournal(cut, 'b', hostRoots);
  for (let i = 0; i < 200; i += 1) journal.see(`${i}`.padStart(300, 'x'), 1);
  journal.close();
  const damaged = join(folder, 'damaged.db');
  copyFileSync(cut, damaged);
  truncateSync(cut, 8192);
  t.throws(() => openJournal(cut, 'b', hostRoots), { code: 'JOURNAL' });

  const file = openSync(damaged, 'r+');
  writeSync(file, Buffer.alloc(4096, 0xff), 0, 4096, statSync(damaged).size - 3 * 4096);
  closeSync(file);
  t.throws(() => openJournal(damaged, 'b', hostRoots), { code: 'JOURNAL', message: /is damaged/ });
  const open = readdirSync('/proc/self/fd').map(fd => linkOf(`/proc/self/fd/${fd}`));
  t.deepEqual(
    open.filter(path => path.startsWith(folder)),
    [],
  );
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

test('what is over is forgotten with its entries after a thousand, what is open never', t => {
  const journal = openJournal(join(folderOf(t), 'journal.db'), 'b', hostRoots);
  const [held, over] = [someAction(), someAction()];
  for (const action of [held, over]) {
    journal.openEntries(action, 0, [entry]);
    journal.saveAction({ ...action, state: 'restored', at: 1 });
  }
  journal.closeEntries(
    journal.entriesOf(over.id).map(each => ({ entry: each, state: 'restored' as const })),
  );
  const running = someAction();
  journal.saveAction({ ...running, at: 2 });
  journal.saveApproval('yesterday', 1000);
  journal.saveApproval('today', 80_000);
  for (let i = 0; i < 1000; i += 1)
    journal.saveAction({ ...someAction(), state: 'restored', at: 1000 + i });
  journal.prune(90_000);
  t.deepEqual(
    journal.openActions().map(({ id, entries }) => [id, entries.length]),
    [
      [held.id, 1],
      [running.id, 0],
    ],
  );
  t.deepEqual(journal.entriesOf(over.id), []);
  t.is(journal.entriesOf(held.id).length, 1);
  t.deepEqual([journal.approvedAt('yesterday'), journal.approvedAt('today')], [null, 80_000]);
  t.is(journal.recentActions(1)[0]?.at, 1999);
  journal.close();
});

test('entries that were given back are open no more, those that failed are, and only values are held', t => {
  const journal = openJournal(join(folderOf(t), 'journal.db'), 'b', hostRoots);
  const action = someAction();
  const [weight, affinity, born] = [
    entry,
    { ...entry, resource: 'affinity:7@70', kind: 'affinity' as const, ownMask: false },
    { ...entry, resource: 'born:/a@1', kind: 'born' as const },
  ];
  const own = { ...affinity, resource: 'affinity:8@80', ownMask: true };
  journal.openEntries(action, 0, [weight, born]);
  journal.openEntries(action, 2, [affinity, own]);
  const resources = () => [...journal.openResources().keys()].sort();
  t.deepEqual(resources(), [affinity.resource, own.resource, weight.resource]);
  t.false(journal.relaxed(7, 70), 'it is not given back yet');
  journal.closeEntries(
    journal.openEntriesOf(action.id).map(each => ({
      entry: each,
      state: each.kind === 'weight' ? ('failed' as const) : ('restored' as const),
    })),
  );
  t.deepEqual(resources(), [weight.resource]);
  t.deepEqual(
    journal.openEntriesOf(action.id).map(({ order }) => order),
    [0],
  );
  t.is(journal.entriesOf(action.id).length, 4);
  // One that has a mask of its own got that back, and not all CPUs.
  t.deepEqual([journal.relaxed(7, 70), journal.relaxed(8, 80)], [true, false]);
  journal.close();
});

test('a row has a hundred allocations of its action at most, and all of its entries', t => {
  const journal = openJournal(join(folderOf(t), 'journal.db'), 'b', hostRoots);
  const allocation = { resource: 'x', before: '1', wanted: '2', after: null };
  const action = { ...someAction(), allocations: Array.from({ length: 150 }, () => allocation) };
  const entries = Array.from({ length: 150 }, () => entry);
  const kept = () => journal.openActions()[0]?.action?.allocations.length;
  journal.openEntries(action, 0, entries);
  t.deepEqual([kept(), journal.entriesOf(action.id).length], [100, 150]);
  journal.saveAction(action);
  t.is(kept(), 100);
  journal.close();
});

test('entries that cannot all be written are not written at all', t => {
  const journal = openJournal(join(folderOf(t), 'journal.db'), 'b', hostRoots);
  const [action, other] = [someAction(), someAction()];
  journal.openEntries(action, 1, [entry]);
  t.throws(() => journal.openEntries(action, 0, [entry, entry]), { message: /UNIQUE/ });
  t.is(journal.entriesOf(action.id).length, 1);
  journal.openEntries(other, 0, [entry]);
  t.is(journal.entriesOf(other.id).length, 1);
  journal.close();
});

test('what another boot left open ended with it: nothing is written, and its action is over', t => {
  const host = fakeHost(t);
  host.makeCgroup('a', [11]);
  host.write('a', 'cpu.weight', '5');
  const path = join(folderOf(t), 'journal.db');
  const [journal, action] = [openJournal(path, 'boot-0', hostRoots), someAction()];
  const { ino } = statSync(join(host.kernel.layout.cpu, 'a'));
  journal.openEntries(action, 0, [{ ...entry, identity: ino }]);
  const end = { reason: { code: 'user', message: 'x' } as const, at: 1 };
  const report = restoreOpen(host.kernel, journal, () => undefined, end);
  t.like(report, { restored: 0, gone: 1, failed: 0, actions: [action.id] });
  t.deepEqual(
    report.ended.map(({ id, state }) => [id, state]),
    [[action.id, 'restored']],
  );
  t.is(host.read('a', 'cpu.weight'), '5');
  t.deepEqual(journal.openActions(), []);
  journal.close();
});

test('of thousands of values that ended fifty are told one by one, and all are counted', t => {
  const host = fakeHost(t);
  const action = someAction();
  const entries = Array.from({ length: 60 }, (_, i) => ({
    ...entry,
    ...{ kind: 'affinity' as const, resource: `affinity:${i}@1`, key: String(i) },
  }));
  host.journal.openEntries(action, 0, entries);
  const open = host.journal.openEntriesOf(action.id);
  const report = undoEntries(host.kernel, host.journal, open, open);
  t.deepEqual([report.gone, report.messages.length], [60, 50]);
});

test('one kind that cannot be given back keeps no other from it', async t => {
  const host = fakeHost(t, { policy: { limits: { maxTouchedRatio: 1 } } });
  host.makeCgroup('a', [11]);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  await host.heartbeat('enforce');
  await host.recommend(
    recommend(host.clock.unixSeconds(), '/a', [
      move('/a', { weight: 6400 }),
      move('/a', { cpus: [2] }),
    ]),
  );
  t.is(host.last()?.state, 'observing', host.last()?.reason?.message);
  const { getAffinity } = host.kernel.native;
  host.kernel.native.getAffinity = () => {
    throw Object.assign(new Error('not now'), { code: 'EIO' });
  };
  const end = { reason: { code: 'user', message: 'x' } as const, at: 1 };
  const restore = () => restoreOpen(host.kernel, host.journal, () => undefined, end);
  const report = restore();
  t.is(host.read('a', 'cpu.weight'), '100');
  t.like(report, { restored: 1, failed: 2, ended: [] });
  t.regex(report.messages.join(), /affinity:11@5011: .*not now/);
  host.kernel.native.getAffinity = getAffinity;
  t.like(restore(), { failed: 0, restored: 2 });
  t.deepEqual(host.threads.get(11)?.cpus, [0, 1, 2, 3]);
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
