import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import type { Recommendation } from '../../src/contract/recommendation.ts';
import { restoreOpen } from '../../src/sculptor/restore.ts';
import { move } from './support/cgroup-lab.ts';
import { type FakeHost, fakeHost } from './support/fake-host.ts';
import { recommend } from './support/recommend.ts';

const policy = {
  instances: [{ match: '/b*', class: 'batch' }],
  limits: { maxTouchedRatio: 1 },
};

async function acting(
  t: ExecutionContext,
  over: Partial<Recommendation> = {},
  change: Record<string, unknown> = { policy },
): Promise<FakeHost> {
  const host = fakeHost(t, change);
  host.makeCgroup('a', [11]);
  host.makeCgroup('b1', [21, 22]);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  host.feed('/b1', { run: 0.8, wait: 0.4 });
  await host.heartbeat('enforce');
  await host.recommend(
    recommend(host.clock.unixSeconds(), '/a', [move('/a', { weight: 6400 })], over),
  );
  return host;
}

/** Lets seconds pass with these cores of run and wait, a heartbeat each. */
async function pass(
  host: FakeHost,
  seconds: number,
  a: { run: number; wait: number },
  b: { run: number; wait: number },
): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    host.clock.step(1);
    await host.heartbeat('enforce');
    host.feed('/a', a);
    host.feed('/b1', b);
    host.executor.tick();
  }
}

test('what helps is kept, with the realised gain, and given back when the lease ends', async t => {
  const host = await acting(t);
  await pass(host, 12, { run: 0.3, wait: 0.01 }, { run: 0.75, wait: 0.45 });
  t.is(host.last()?.state, 'kept');
  t.is(host.reason(), 'improved');
  const realised = host.last()?.realised;
  t.true((realised?.gainRatio ?? 0) > 0.9, JSON.stringify(realised));
  t.true((realised?.interval[0] ?? 0) > 0.5);
  await pass(host, 60, { run: 0.3, wait: 0.01 }, { run: 0.75, wait: 0.45 });
  t.deepEqual([host.last()?.state, host.reason()], ['restored', 'lease-ended']);
  t.is(host.read('a', 'cpu.weight'), '100');
  t.deepEqual(host.journal.openActions(), []);
});

test('what makes the beneficiary wait more is rolled back as worse', async t => {
  const host = await acting(t);
  await pass(host, 12, { run: 0.1, wait: 0.5 }, { run: 0.8, wait: 0.4 });
  t.deepEqual([host.last()?.state, host.reason()], ['rolled-back', 'worse']);
  t.is(host.read('a', 'cpu.weight'), '100');
});

test('what changes nothing is rolled back as neutral: neutral is not success', async t => {
  const host = await acting(t);
  await pass(host, 31, { run: 0.2, wait: 0.3 }, { run: 0.8, wait: 0.4 });
  t.deepEqual([host.last()?.state, host.reason()], ['rolled-back', 'neutral']);
});

test('a neighbour past its limit rolls back what helped the beneficiary', async t => {
  const host = await acting(t, {}, { policy: { limits: { maxTouchedRatio: 1 } } });
  await pass(host, 12, { run: 0.3, wait: 0.01 }, { run: 0.4, wait: 0.8 });
  t.deepEqual([host.last()?.state, host.reason()], ['rolled-back', 'worse']);
  t.regex(host.last()?.reason?.message ?? '', /neighbour \/b1 lost 5\d\.\d %/);
});

const vm = '1b671a64-40d5-491e-99b0-da01ff1f3341';

/** An action on CPUs 0 and 1 for an instance that gains by it, while another loses half. */
async function losing(t: ExecutionContext, instance: string, stage: (host: FakeHost) => void) {
  const host = fakeHost(t, { policy: { limits: { maxTouchedRatio: 1 } } });
  host.makeCgroup('a', [11]);
  host.pin(11, [0, 1]);
  stage(host);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  host.feed(instance, { run: 0.8, wait: 0.4 });
  await host.heartbeat('enforce');
  await host.recommend(recommend(host.clock.unixSeconds(), '/a', [move('/a', { weight: 6400 })]));
  for (let second = 0; second < 12; second += 1) {
    host.clock.step(1);
    await host.heartbeat('enforce');
    host.feed('/a', { run: 0.3, wait: 0.01 });
    host.feed(instance, { run: 0.4, wait: 0.8 });
    host.executor.tick();
  }
  return host;
}

test('a VM of which no QEMU is found is a neighbour, whose loss rolls back, and no control', async t => {
  const host = await losing(t, vm, () => undefined);
  t.deepEqual([host.last()?.state, host.reason()], ['rolled-back', 'worse']);
  t.regex(host.last()?.reason?.message ?? '', /neighbour 1b671a64-\S+ lost 5\d\.\d %/);
});

for (const [where, cpus, state] of [
  ['on the same CPUs is a neighbour', [1], 'rolled-back'],
  ['on others is none, whatever it loses', [2, 3], 'kept'],
] as const)
  test(`a VM whose QEMU has its threads ${where}`, async t => {
    const host = await losing(t, vm, each => {
      each.makeCgroup('machine', [31, 32]);
      each.pin(31, [3]);
      each.pin(32, [...cpus]);
      const process = join(each.folder, 'proc/31');
      for (const tid of ['31', '32']) mkdirSync(join(process, 'task', tid), { recursive: true });
      writeFileSync(join(process, 'stat'), `31 (qemu-system-x86) S ${'0 '.repeat(50)}`);
      writeFileSync(join(process, 'cmdline'), `qemu-system-x86_64\0-uuid\0${vm}\0`);
    });
    t.is(host.last()?.state, state);
  });

test('one thread of many on the same CPUs makes an instance a neighbour', async t => {
  const tids = Array.from({ length: 20 }, (_, i) => 31 + i);
  const host = await losing(t, '/many', each => {
    each.makeCgroup('many', tids);
    for (const tid of tids) each.pin(tid, tid === 50 ? [1] : [2, 3]);
  });
  t.deepEqual([host.last()?.state, host.reason()], ['rolled-back', 'worse']);
});

test('declared batch that is out-weighed is judged over its window, also after the action was kept', async t => {
  const host = await acting(t, { leaseSeconds: 600 });
  await pass(host, 15, { run: 0.3, wait: 0.01 }, { run: 0.1, wait: 1.1 });
  t.is(host.last()?.state, 'kept');
  await pass(host, 25, { run: 0.3, wait: 0.01 }, { run: 0.1, wait: 1.1 });
  t.deepEqual([host.last()?.state, host.reason()], ['rolled-back', 'worse']);
});

test('roll-backs in a row cool down, each twice as long, and then freeze', async t => {
  const host = await acting(t);
  const again = () =>
    host.recommend(recommend(host.clock.unixSeconds(), '/a', [move('/a', { weight: 6400 })]));
  const fail = () => pass(host, 31, { run: 0.2, wait: 0.3 }, { run: 0.8, wait: 0.4 });
  await fail();
  await again();
  t.deepEqual([host.last()?.state, host.reason()], ['deferred', 'cool-down']);
  await pass(host, 61, { run: 0.2, wait: 0.3 }, { run: 0.8, wait: 0.4 });
  await again();
  t.is(host.last()?.state, 'observing');
  await fail();
  await pass(host, 61, { run: 0.2, wait: 0.3 }, { run: 0.8, wait: 0.4 });
  await again();
  t.is(host.reason(), 'cool-down');
  await pass(host, 61, { run: 0.2, wait: 0.3 }, { run: 0.8, wait: 0.4 });
  await again();
  await fail();
  await pass(host, 300, { run: 0.2, wait: 0.3 }, { run: 0.8, wait: 0.4 });
  await again();
  t.is(host.reason(), 'frozen');
});

test('what was kept ends the row of roll-backs', async t => {
  const host = await acting(t);
  const again = () =>
    host.recommend(recommend(host.clock.unixSeconds(), '/a', [move('/a', { weight: 6400 })]));
  const [before, helped] = [
    { run: 0.2, wait: 0.3 },
    { run: 0.3, wait: 0.01 },
  ];
  const fail = () => pass(host, 31, before, { run: 0.8, wait: 0.4 });
  await fail();
  t.is(host.last()?.state, 'rolled-back');
  await pass(host, 61, before, { run: 0.8, wait: 0.4 });
  await again();
  await pass(host, 61, helped, { run: 0.75, wait: 0.45 });
  t.deepEqual([host.last()?.state, host.reason()], ['restored', 'lease-ended']);
  await pass(host, 31, before, { run: 0.8, wait: 0.4 });
  await again();
  await fail();
  t.is(host.last()?.state, 'rolled-back');
  await pass(host, 61, before, { run: 0.8, wait: 0.4 });
  await again();
  t.is(host.last()?.state, 'observing', host.reason());
});

test('something else that changes the value makes the sculptor yield, not fight', async t => {
  const host = await acting(t);
  host.write('a', 'cpu.weight', '250');
  await pass(host, 6, { run: 0.3, wait: 0.01 }, { run: 0.8, wait: 0.4 });
  t.deepEqual([host.last()?.state, host.reason()], ['yielded', 'changed-by-others']);
  t.is(host.read('a', 'cpu.weight'), '250');
});

test('a partial application is undone in reverse, and said', async t => {
  const host = fakeHost(t, { policy });
  host.makeCgroup('a', [11]);
  host.makeCgroup('b1', [21, 22]);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  await host.heartbeat('enforce');
  const setAffinity = host.kernel.native.setAffinity;
  let calls = 0;
  host.kernel.native.setAffinity = (tids, cpus) => {
    calls += 1;
    // The first of two is set, the second refused: EINVAL.
    if (calls > 1) return setAffinity(tids, cpus);
    return Int32Array.from([...setAffinity(tids.slice(0, 1), cpus), 22]);
  };
  const moves = [move('/a', { weight: 6400 }), move('/b1', { cpus: [3] })];
  await host.recommend(recommend(host.clock.unixSeconds(), '/a', moves));
  t.deepEqual([host.last()?.state, host.reason()], ['rolled-back', 'apply-failed']);
  t.regex(host.last()?.reason?.message ?? '', /affinity:22@5022: the kernel refused CPUs 3/);
  t.is(host.read('a', 'cpu.weight'), '100');
  t.deepEqual(host.threads.get(21)?.cpus, [0, 1, 2, 3]);
  t.deepEqual(host.journal.openActions(), []);
  await host.recommend(recommend(host.clock.unixSeconds(), '/a', moves));
  t.is(host.reason(), 'cool-down', 'it counts as a roll-back');
});

test('what a failed application leaves set is given back later', async t => {
  const host = await acting(t);
  const { setAffinity } = host.kernel.native;
  let calls = 0;
  host.kernel.native.setAffinity = (tids, cpus) => {
    calls += 1;
    const set = calls === 1 ? setAffinity(tids.slice(0, 1), cpus) : [];
    return Int32Array.from(tids, (_, i) => set[i] ?? 22);
  };
  const moves = [move('/b1', { cpus: [3] })];
  await host.recommend(recommend(host.clock.unixSeconds(), '/b1', moves));
  t.is(host.last()?.state, 'rolled-back');
  t.deepEqual([host.executor.leftovers(), host.threads.get(21)?.cpus], [1, [3]]);
  host.kernel.native.setAffinity = setAffinity;
  await pass(host, 11, { run: 0.3, wait: 0.01 }, { run: 0.75, wait: 0.45 });
  t.deepEqual([host.executor.leftovers(), host.threads.get(21)?.cpus], [0, [0, 1, 2, 3]]);
});

test('the newest action is given back first, and what is held is read back every five seconds', async t => {
  const host = await acting(t);
  const moves = [move('/b1', { cpus: [3] })];
  await host.recommend(recommend(host.clock.unixSeconds(), '/b1', moves));
  const held = host.executor.running().map(({ action }) => action.id);
  t.is(held.length, 2);
  let reads = 0;
  const { getAffinity } = host.kernel.native;
  host.kernel.native.getAffinity = tid => {
    reads += 1;
    return getAffinity(tid);
  };
  for (let tick = 0; tick < 60; tick += 1) {
    host.clock.step(0.2);
    host.executor.tick();
  }
  t.is(reads, 2 * 2, 'two threads, twice in 12 s');
  host.told.length = 0;
  host.executor.finishAll('restored', { code: 'shutdown', message: 'the sculptor ends' });
  t.deepEqual(
    host.told.map(({ id }) => id),
    held.reverse(),
  );
});

test('a kernel that holds another value than was written is a failed read-back', async t => {
  const host = fakeHost(t, { policy });
  host.makeCgroup('a', [11]);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  await host.heartbeat('enforce');
  host.kernel.native.setAffinity = tids => tids.map(() => 0);
  await host.recommend(recommend(host.clock.unixSeconds(), '/a', [move('/a', { cpus: [2] })]));
  t.deepEqual([host.last()?.state, host.reason()], ['rolled-back', 'readback']);
});

test('a journal that cannot be written lets nothing be set', async t => {
  const host = fakeHost(t, { policy });
  host.makeCgroup('a', [11]);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  await host.heartbeat('enforce');
  host.journal.db.exec('DROP INDEX undo_open; ALTER TABLE undo RENAME TO elsewhere');
  await t.throwsAsync(
    host.recommend(recommend(host.clock.unixSeconds(), '/a', [move('/a', { weight: 6400 })])),
  );
  t.is(host.read('a', 'cpu.weight'), '100');
});

test('an action whose task ended is given back as gone', async t => {
  const host = fakeHost(t, { policy });
  host.makeCgroup('a', [11, 12]);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  await host.heartbeat('enforce');
  await host.recommend(recommend(host.clock.unixSeconds(), '/a', [move('/a', { cpus: [2] })]));
  t.is(host.last()?.state, 'observing');
  host.threads.delete(12);
  host.executor.finishAll('restored', { code: 'shutdown', message: 'the sculptor ends' });
  t.regex(host.last()?.reason?.message ?? '', /1 had ended/);
  t.deepEqual(host.threads.get(11)?.cpus, [0, 1, 2, 3]);
  const end = { reason: { code: 'user', message: 'x' } as const, at: 1 };
  t.is(restoreOpen(host.kernel, host.journal, () => undefined, end).actions.length, 0);
});

test('a thread that is made while masks are set is found, and given its own mask back', async t => {
  const host = fakeHost(t, { policy });
  host.makeCgroup('a', [11]);
  host.makeCgroup('elsewhere', [12, 13]);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  await host.heartbeat('enforce');
  const { setAffinity } = host.kernel.native;
  let born = 11;
  host.kernel.native.setAffinity = (tids, cpus) => {
    // Beside each of the first two that are set comes another.
    born = Math.min(born + 1, 13);
    host.write('a', 'cgroup.threads', `11\n12\n13`.slice(0, 3 * (born - 10)));
    return setAffinity(tids, cpus);
  };
  await host.recommend(recommend(host.clock.unixSeconds(), '/a', [move('/a', { cpus: [2] })]));
  t.is(host.last()?.state, 'observing', host.last()?.reason?.message);
  for (const tid of [11, 12, 13]) t.deepEqual(host.threads.get(tid)?.cpus, [2]);
  const [held] = host.journal.openActions();
  t.deepEqual(
    held?.entries.map(({ resource, order }) => [resource.split('@')[0], order]),
    [
      ['born:/a', 0],
      ['affinity:11', 1],
      ['affinity:12', 2],
      ['affinity:13', 3],
    ],
  );
  host.executor.finishAll('restored', { code: 'shutdown', message: 'the sculptor ends' });
  for (const tid of [11, 12, 13]) t.deepEqual(host.threads.get(tid)?.cpus, [0, 1, 2, 3]);
});

test('no lease, nor what renews it, is longer than the policy allows', async t => {
  const limits = { maxTouchedRatio: 1, maxLeaseSeconds: 20 };
  const host = await acting(t, { leaseSeconds: 600 }, { policy: { ...policy, limits } });
  const { action } = host.executor.running()[0] ?? {};
  t.is(action?.leaseEnds, host.clock.unixSeconds() + 20);
  await pass(host, 15, { run: 0.3, wait: 0.01 }, { run: 0.75, wait: 0.45 });
  await host.recommend(
    recommend(host.clock.unixSeconds(), '/a', [move('/a', { weight: 6400 })], {
      renews: action?.id ?? '',
      leaseSeconds: 600,
    }),
  );
  t.is(host.last()?.leaseEnds, host.clock.unixSeconds() + 20);
  await pass(host, 19, { run: 0.3, wait: 0.01 }, { run: 0.75, wait: 0.45 });
  t.is(host.executor.running().length, 1);
  await pass(host, 1, { run: 0.3, wait: 0.01 }, { run: 0.75, wait: 0.45 });
  t.deepEqual([host.last()?.state, host.reason()], ['restored', 'lease-ended']);
});

test('what only helps to undo is no allocation that is told', async t => {
  const host = await acting(t, { moves: [move('/b1', { idle: true })] });
  t.deepEqual(
    host.last()?.allocations.map(({ resource, after }) => [resource.split(':').at(-1), after]),
    [['cpu.idle', '1']],
  );
});

test('what ends while an action holds it was changed by nobody', async t => {
  const host = await acting(t, {
    moves: [move('/a', { weight: 6400 }), move('/b1', { cpus: [3] })],
  });
  t.is(host.last()?.state, 'observing');
  rmSync(join(host.kernel.layout.cpu, 'a'), { recursive: true });
  host.threads.delete(21);
  host.clock.step(6);
  host.executor.tick();
  t.is(host.executor.running().length, 1);
  host.executor.finishAll('restored', { code: 'shutdown', message: 'the sculptor ends' });
  t.regex(host.last()?.reason?.message ?? '', /2 had ended/);
  t.deepEqual(host.threads.get(22)?.cpus, [0, 1, 2, 3]);
});

test('what could not be given back is tried again while others run, and nothing is laid over it meanwhile', async t => {
  const host = await acting(t);
  const setAffinity = host.kernel.native.setAffinity;
  const confine = (cpu: number) =>
    host.recommend(recommend(host.clock.unixSeconds(), '/b1', [move('/b1', { cpus: [cpu] })]));
  await confine(3);
  const { action } = host.executor.running()[1] ?? {};
  host.kernel.native.setAffinity = tids => tids.map(() => 22);
  const { id, created, expires, hostId } = recommend(host.clock.unixSeconds(), '/b1', []);
  await host.withdraw({
    ...{ id, created, expires, hostId, reason: 'calm' },
    actionId: action?.id ?? '',
  });
  t.regex(host.last()?.reason?.message ?? '', /2 could not be given back and are tried again/);
  host.kernel.native.setAffinity = setAffinity;
  t.is(host.executor.leftovers(), 1);
  await confine(3);
  t.deepEqual([host.last()?.state, host.reason()], ['deferred', 'overlap']);
  t.deepEqual(host.threads.get(21)?.cpus, [3]);
  await pass(host, 11, { run: 0.3, wait: 0.01 }, { run: 0.75, wait: 0.45 });
  t.is(host.executor.running().length, 1);
  t.is(host.read('a', 'cpu.weight'), '6400');
  t.is(host.executor.leftovers(), 0);
  t.deepEqual(host.threads.get(21)?.cpus, [0, 1, 2, 3]);
  const ends = host.told.filter(each => each.id === action?.id && each.state === 'restored');
  t.is(ends.length, 1, 'it had ended before');
  await confine(2);
  t.is(host.last()?.state, 'observing');
});

test('to try again what takes long takes a tenth of the time at most', async t => {
  const host = await acting(t, { moves: [move('/b1', { cpus: [3] })] });
  const tries: number[] = [];
  host.kernel.native.setAffinity = tids => {
    tries.push(host.clock.monotonicSeconds());
    host.clock.step(30);
    return tids.map(() => 22);
  };
  host.executor.finishAll('restored', { code: 'shutdown', message: 'the mode fell' });
  for (let second = 0; second < 400; second += 1) {
    host.clock.step(1);
    host.executor.tick();
  }
  t.deepEqual(tries, [0, 40, 340]);
});

test('a thread that another action holds is not moved by a second, which would end by giving back the first one’s mask', async t => {
  const host = fakeHost(t, { policy });
  host.makeCgroup('a', [11, 12]);
  host.makeCgroup('b1', [21]);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  host.feed('/b1', { run: 0.8, wait: 0.4 });
  await host.heartbeat('enforce');
  await host.recommend(recommend(host.clock.unixSeconds(), '/a', [move('/a', { cpus: [2] })]));
  host.write('b1', 'cgroup.threads', '21\n12');
  await host.recommend(recommend(host.clock.unixSeconds(), '/b1', [move('/b1', { cpus: [2] })]));
  t.deepEqual([host.last()?.state, host.reason()], ['deferred', 'overlap']);
  t.regex(host.last()?.reason?.message ?? '', /^affinity:12@5012: action \S+ holds it already/);
});

test('what a start could not give back is given back later, and told', async t => {
  const former = await acting(t);
  former.end();
  const host = fakeHost(t, { policy }, former.folder);
  t.is(host.read('a', 'cpu.weight'), '6400');
  host.clock.step(11);
  host.executor.tick();
  t.is(host.read('a', 'cpu.weight'), '100');
  t.deepEqual([host.last()?.state, host.reason()], ['restored', 'crash-recovery']);
  t.deepEqual(host.journal.openActions(), []);
});

test('what was given back while the journal could not be written is closed when it can', async t => {
  const host = await acting(t);
  host.journal.db.exec('PRAGMA query_only = 1');
  host.executor.finishAll('restored', { code: 'shutdown', message: 'the mode fell' });
  t.is(host.read('a', 'cpu.weight'), '100');
  host.journal.db.exec('PRAGMA query_only = 0');
  t.is(host.journal.openActions().length, 1);
  host.clock.step(11);
  host.executor.tick();
  t.deepEqual(host.journal.openActions(), []);
});

test('an action that cannot be recorded as ended does not hold up the end of another’s lease', async t => {
  const host = await acting(t, { leaseSeconds: 5 });
  const moves = [move('/b1', { weight: 500 })];
  const other = recommend(host.clock.unixSeconds(), '/b1', moves, { leaseSeconds: 5 });
  await host.recommend(other);
  t.is(host.executor.running().length, 2);
  host.journal.db.exec('PRAGMA query_only = 1');
  host.clock.step(6);
  t.throws(host.executor.tick, { message: /readonly/ });
  t.is(host.executor.running().length, 0);
  t.deepEqual([host.read('a', 'cpu.weight'), host.read('b1', 'cpu.weight')], ['100', '100']);
});

test('a CPU that goes offline hides a part of our masks, and takes none of them away: of newborn threads too', async t => {
  const host = fakeHost(t, { policy });
  host.makeCgroup('a', [11]);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  await host.heartbeat('enforce');
  await host.recommend(recommend(host.clock.unixSeconds(), '/a', [move('/a', { cpus: [2, 3] })]));
  t.is(host.last()?.state, 'observing');
  const { getAffinity } = host.kernel.native;
  host.kernel.native.getAffinity = tid => getAffinity(tid).filter(cpu => cpu !== 3);
  writeFileSync(join(host.folder, 'sys/devices/system/cpu/online'), '0-2\n');
  host.threads.set(12, { cpus: [2, 3], startTicks: 200_000, own: true });
  host.write('a', 'cgroup.threads', '11\n12');
  host.clock.step(6);
  host.executor.tick();
  t.is(host.executor.running().length, 1);
  host.executor.finishAll('restored', { code: 'shutdown', message: 'the sculptor ends' });
  for (const tid of [11, 12]) t.deepEqual(host.threads.get(tid)?.cpus, [0, 1, 2, 3]);
});
