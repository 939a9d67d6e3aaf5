import { mkdirSync, renameSync, rmdirSync, statSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { emptyTotals } from '../../../src/agent/instances/add-change.ts';
import { createInstanceBook } from '../../../src/agent/instances/instances.ts';
import type { SchedTotals } from '../../../src/agent/probes/sched-layout.ts';
import type { CgroupLayout } from '../../../src/linux/cgroups.ts';
import { makeTree } from '../../linux/tree.ts';

function hierarchy(t: ExecutionContext) {
  const { cgroup } = makeTree(t, { 'cgroup/': '' });
  const layout: CgroupLayout = { version: 1, cpu: cgroup, cpuset: null };
  return {
    layout,
    make: (path: string) => {
      mkdirSync(`${cgroup}${path}`, { recursive: true });
      return statSync(`${cgroup}${path}`).ino;
    },
    remove: (path: string) => rmdirSync(`${cgroup}${path}`),
  };
}

function totals(runNs: number, waitNs = 0): SchedTotals {
  return { ...emptyTotals(), runNs, waitNs };
}

const throttled = (throttledNs: number): SchedTotals => ({ ...emptyTotals(), throttledNs });

const nothing = { gone: new Map(), ended: [] };

/** Reads until what is gone is past its grace. */
function outlast(book: ReturnType<typeof createInstanceBook>, last: Map<number, SchedTotals>) {
  for (let i = 0; i < 4; i += 1) book.take(last, 0, 1);
  return book.retire();
}

test('an unknown id is named by its folder, its life begins with the last reading, and its rates follow', t => {
  const { layout, make } = hierarchy(t);
  const id = make('/pool/a');
  const book = createInstanceBook(layout);
  const born = book.take(new Map([[id, totals(1e9)]]), 99.8, 1);
  t.deepEqual(
    born.map(living => [living.instance, living.start]),
    [[{ id: '/pool/a', kind: 'cgroup', name: 'a' }, 99.8]],
  );
  book.take(new Map([[id, totals(1.5e9, 1e8)]]), 100, 1);
  const [living] = book.living();
  t.deepEqual(living?.window, { usedCores: 0.5, waitCores: 0.1, throttledCores: 0 });
  book.take(new Map(), 101, 1);
  t.is(living?.window.usedCores, 0);
});

test('what is charged to a cgroup after its removal still counts, then its key is given back once', t => {
  const { layout, make, remove } = hierarchy(t);
  const id = make('/a');
  const book = createInstanceBook(layout);
  const [living] = book.take(new Map([[id, totals(5)]]), 100, 1);
  remove('/a');
  book.sweep(true);
  t.deepEqual(book.retire(), nothing);
  book.take(new Map([[id, totals(9)]]), 101, 1);
  const { gone, ended } = outlast(book, new Map([[id, totals(9)]]));
  t.deepEqual([...gone], [[id, living]]);
  t.deepEqual(ended, [living]);
  t.is(living?.totals.runNs, 9);
  t.is(book.size(), 0);
  t.deepEqual(book.retire(), nothing);
});

test('a cgroup that was made anew under its name is another, also while nothing runs in it', t => {
  const { layout, make, remove } = hierarchy(t);
  const id = make('/a');
  const book = createInstanceBook(layout);
  const [living] = book.take(new Map([[id, totals(5)]]), 100, 1);
  remove('/a');
  // Else the new one may be given the number of the one before.
  make('/keeps-the-inode');
  t.not(make('/a'), id);
  book.sweep(true);
  t.deepEqual(outlast(book, new Map([[id, totals(5)]])).ended, [living]);
});

test('what is gone has three readings more, in which what is charged to it counts', t => {
  const { layout, make, remove } = hierarchy(t);
  const id = make('/a');
  const book = createInstanceBook(layout);
  const [living] = book.take(new Map([[id, totals(5)]]), 100, 1);
  remove('/a');
  book.sweep(true);
  for (let read = 1; read <= 3; read += 1) {
    book.take(new Map([[id, totals(5 + read)]]), 100 + read, 1);
    t.deepEqual(book.retire(), nothing);
  }
  book.take(new Map([[id, totals(8)]]), 104, 1);
  t.deepEqual(book.retire().ended, [living]);
});

test('where nothing is seen to go one sweep in ten looks', t => {
  const { layout, make, remove } = hierarchy(t);
  const [id, other] = [make('/a'), make('/b')];
  const book = createInstanceBook(layout);
  const last = new Map([id, other].map(each => [each, totals(5)]));
  const [living] = book.take(last, 100, 1);
  book.sweep(false);
  remove('/a');
  for (let sweep = 2; sweep <= 10; sweep += 1) book.sweep(false);
  t.deepEqual(outlast(book, last), nothing);
  book.sweep(false);
  t.deepEqual(outlast(book, last), { gone: new Map([[id, living]]), ended: [living] });
});

test('throttled time adds up, and its rate is of the last reading', t => {
  const { layout, make } = hierarchy(t);
  const id = make('/a');
  const book = createInstanceBook(layout);
  const [living] = book.take(new Map([[id, throttled(1e8)]]), 100, 1);
  book.take(new Map([[id, throttled(3e8)]]), 101, 1);
  t.deepEqual([living?.totals.throttledNs, living?.window.throttledCores], [3e8, 0.2]);
  book.take(new Map([[id, throttled(3e8)]]), 102, 1);
  t.deepEqual([living?.totals.throttledNs, living?.window.throttledCores], [3e8, 0]);
});

test('a key that the kernel made anew goes on from what it was, also where it ran more since', t => {
  const { layout, make } = hierarchy(t);
  const id = make('/a');
  const book = createInstanceBook(layout);
  const [living] = book.take(new Map([[id, totals(5, 100)]]), 100, 1);
  book.take(new Map([[id, totals(6, 10)]]), 101, 1);
  t.like(living?.totals, { runNs: 11, waitNs: 110 });
});

test('a cgroup made anew under its name is another life, and the first one ends when its last totals are there', t => {
  const { layout, make, remove } = hierarchy(t);
  const first = make('/a');
  const book = createInstanceBook(layout);
  const [old] = book.take(new Map([[first, totals(5)]]), 100, 1);
  remove('/a');
  make('/keeps-the-inode-from-being-reused');
  const second = make('/a');
  const [born] = book.take(
    new Map([
      [first, totals(5)],
      [second, totals(1)],
    ]),
    200,
    1,
  );
  t.is(born?.start, 200);
  t.is(born?.totals.runNs, 1);
  t.deepEqual(book.retire(), nothing);
  t.deepEqual([...book.living()], [born]);
  t.deepEqual([...book.superseded()], [old]);
  book.sweep(true);
  const last = new Map([
    [first, totals(7)],
    [second, totals(1)],
  ]);
  t.deepEqual(outlast(book, last), { gone: new Map([[first, old]]), ended: [old] });
  t.is(old?.totals.runNs, 7);
  t.deepEqual([...book.superseded()], []);
  t.is(book.named('/a'), born);
});

test('an id without a name that goes on running is looked for again: a later cgroup may have it', t => {
  const { layout, make } = hierarchy(t);
  const id = make('/a');
  renameSync(`${layout.cpu}/a`, `${layout.cpu}.away`);
  const book = createInstanceBook(layout);
  t.deepEqual(book.take(new Map([[id, totals(5)]]), 100, 1), []);
  renameSync(`${layout.cpu}.away`, `${layout.cpu}/a`);
  let gone = book.retire().gone;
  for (let reads = 0; gone.size === 0 && reads < 2000; reads += 1) {
    t.deepEqual(book.take(new Map([[id, totals(6 + reads)]]), 100, 1), []);
    gone = book.retire().gone;
  }
  t.deepEqual([...gone], [[id, null]]);
  // The kernel has forgotten it: what the first one did is not told of the second.
  const [born] = book.take(new Map([[id, totals(2)]]), 200, 1);
  t.deepEqual([born?.instance.id, born?.start, born?.totals.runNs], ['/a', 200, 2]);
});

test('what was gone before it could be named is counted once, and its key is given back in the end', t => {
  const book = createInstanceBook(hierarchy(t).layout);
  for (let i = 0; i < 50; i += 1) book.take(new Map([[999_999_999, totals(5)]]), 100, 1);
  t.deepEqual(book.retire(), nothing);
  for (let i = 0; i < 2; i += 1) book.take(new Map([[999_999_999, totals(5)]]), 100, 1);
  t.deepEqual([...book.retire().gone], [[999_999_999, null]]);
  t.is(book.unnamed(), 1);
  t.is(book.size(), 0);
});

test('what goes on running without a name is looked for again every five minutes', t => {
  const book = createInstanceBook(hierarchy(t).layout);
  const looked: number[] = [];
  for (let read = 1; read <= 3100; read += 1) {
    book.take(new Map([[999_999_999, totals(read)]]), read / 5, 0.2);
    if (book.retire().gone.size > 0) looked.push(read);
  }
  t.deepEqual(looked, [1500, 3000]);
  t.is(book.unnamed(), 3);
});

test('who makes cgroups by the thousand has the hierarchy walked no more often, and nothing of those that wait is lost', t => {
  const { layout, make } = hierarchy(t);
  for (let i = 0; i < 4000; i += 1) make(`/many/${i}`);
  const [first, second, third] = [make('/a'), make('/b'), make('/c')];
  const book = createInstanceBook(layout);
  const read = (at: number, ...all: [number, SchedTotals][]) =>
    book.take(new Map(all), at - 0.2, 0.2).map(({ path, start }) => [path, start]);
  t.deepEqual(read(100, [first, totals(1e8)]), [['/a', 99.8]]);
  t.deepEqual(read(100.2, [first, totals(1e8)], [second, totals(1e8)]), []);
  t.deepEqual(read(100.4, [second, totals(2e8)]), []);
  t.is(book.unnamed(), 0);
  t.deepEqual(read(100.6, [second, totals(3e8)], [third, totals(1e8)]), [
    ['/b', 100],
    ['/c', 100],
  ]);
  t.is(book.named('/b')?.totals.runNs, 3e8);
  t.is(book.named('/b')?.window.usedCores.toFixed(6), '0.500000', 'over all of the time');
});

const vm = { id: 'the-uuid', kind: 'vm', name: 'web' } as const;

test('a VM has what all its cgroups have; one that comes later joins it', t => {
  const { layout, make } = hierarchy(t);
  const [emulator, vcpu, batch] = [make('/vm/emulator'), make('/vm/vcpu0'), make('/batch')];
  const book = createInstanceBook(layout);
  const first = new Map([
    [emulator, totals(5)],
    [batch, totals(100)],
  ]);
  const born = book.take(first, 100, 1);
  const found = born.find(living => living.path === '/vm/emulator');
  if (!found) throw new Error('not born');
  t.deepEqual(book.becomeVm(found, { instance: vm, path: '/vm' }, 101), []);
  t.deepEqual(book.take(new Map([...first, [vcpu, totals(7)]]), 101, 1), []);
  const machine = book.named('the-uuid');
  t.is(machine?.totals.runNs, 12);
  t.is(machine?.start, 100, 'nothing had been told of its parts');
  t.is(book.of(vcpu), machine);
  t.is(book.size(), 2);
});

test('a cgroup that turns out to be a VM later ends as what it was, and the VM begins at zero', t => {
  const { layout, make } = hierarchy(t);
  const id = make('/a');
  const book = createInstanceBook(layout);
  const [living] = book.take(new Map([[id, totals(5)]]), 100, 1);
  book.take(new Map([[id, totals(6)]]), 101, 1);
  if (!living) throw new Error('not born');
  t.deepEqual(book.becomeVm(living, { instance: vm, path: '/a' }, 102), [living]);
  book.take(new Map([[id, totals(8)]]), 102, 1);
  t.is(book.named('the-uuid')?.totals.runNs, 2);
  t.is(book.named('the-uuid')?.start, 102);
  t.is(living.totals.runNs, 6);
});

test('a VM without a UUID takes the place of the cgroup whose id it has', t => {
  const { layout, make } = hierarchy(t);
  const [id, child] = [make('/a'), make('/a/vcpus')];
  const instance = { id: '/a', kind: 'vm', name: 'web' } as const;
  const both = (ns: number) => new Map([id, child].map(each => [each, totals(ns)]));

  const atBirth = createInstanceBook(layout);
  const born = atBirth.take(both(5), 100, 1).find(({ path }) => path === '/a');
  if (!born) throw new Error('not born');
  t.deepEqual(atBirth.becomeVm(born, { instance, path: '/a' }, 101), []);
  t.is(atBirth.named('/a')?.totals.runNs, 10);
  t.deepEqual(atBirth.retire(), nothing, 'nothing had been told of it');

  const later = createInstanceBook(layout);
  const living = later.take(both(5), 100, 1);
  later.take(both(6), 101, 1);
  const [first] = living.filter(({ path }) => path === '/a');
  if (!first) throw new Error('not born');
  t.deepEqual(new Set(later.becomeVm(first, { instance, path: '/a' }, 102)), new Set(living));
  later.take(both(8), 102, 1);
  const machine = later.named('/a');
  t.deepEqual(machine?.instance, instance);
  t.deepEqual([machine?.totals.runNs, machine?.start], [4, 102]);
  t.deepEqual([later.of(id), later.of(child)], [machine, machine]);
  t.is(later.size(), 1);
  t.deepEqual(later.retire().ended, [], 'what it was has ended once');
  const below = make('/a/later');
  const [own] = later.take(new Map([[below, totals(3)]]), 103, 1);
  t.deepEqual([own?.path, own?.totals.runNs, machine?.totals.runNs], ['/a/later', 3, 4]);
});

test('what was a VM ends, and each of its cgroups begins at zero as an instance of its own', t => {
  const { layout, make } = hierarchy(t);
  const ids = [make('/vm/emulator'), make('/vm/vcpu0')];
  const all = (ns: number) => new Map(ids.map(id => [id, totals(ns)]));
  const book = createInstanceBook(layout);
  const [living] = book.take(all(5), 100, 1);
  if (!living) throw new Error('not born');
  book.becomeVm(living, { instance: vm, path: '/vm' }, 101);
  const machine = book.named('the-uuid');
  if (!machine) throw new Error('no VM');
  t.deepEqual(book.endVm(machine, 102), [machine]);
  book.take(all(7), 102, 1);
  t.deepEqual(
    [...book.living()].map(({ path, start, totals }) => [path, start, totals.runNs]),
    [
      ['/vm/emulator', 102, 2],
      ['/vm/vcpu0', 102, 2],
    ],
  );
  t.is(machine.totals.runNs, 10);
  t.is(book.named('the-uuid'), undefined);
});

test('totals never fall, whatever the kernel answers', t => {
  const { layout, make } = hierarchy(t);
  const ids = [make('/vm/a'), make('/vm/b')];
  const reading = fc.array(fc.option(fc.nat(1000)), { minLength: 2, maxLength: 2 });
  fc.assert(
    fc.property(fc.array(reading, { maxLength: 20 }), readings => {
      const book = createInstanceBook(layout);
      const [first] = book.take(new Map([[ids[0] ?? 0, totals(1)]]), 0, 1);
      if (first) book.becomeVm(first, { instance: vm, path: '/vm' }, 0);
      let before = 0;
      return readings.every(values => {
        const entries = values.flatMap((value, i) =>
          value === null ? [] : [[ids[i] ?? 0, totals(value)] as const],
        );
        book.take(new Map(entries), 0, 1);
        const now = book.named('the-uuid')?.totals.runNs ?? 0;
        const holds = now >= before;
        before = now;
        return holds;
      });
    }),
    { seed: 4 },
  );
  t.pass();
});
