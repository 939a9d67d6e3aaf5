import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { attr, guestOrigin, scopes } from '../../src/contract/metrics.ts';
import type { Recommendation } from '../../src/contract/recommendation.ts';
import { eventEncoder } from '../../src/otlp/events-exporter.ts';
import { generateKeys, signedEvent } from '../../src/otlp/signing.ts';
import { counter, resourceMetrics, serialize } from '../otlp/support.ts';
import { instance, move } from './support/cgroup-lab.ts';
import { fakeHost, hostId } from './support/fake-host.ts';
import { recommend } from './support/recommend.ts';

const classes = {
  instances: [
    { match: '/a', class: 'latency-critical' },
    { match: '/b*', class: 'batch' },
  ],
};

/** A host with a contended instance /a beside /b1 and /b2, whose engine enforces. */
async function contended(
  t: ExecutionContext,
  change: Record<string, unknown> = { policy: classes },
) {
  const host = fakeHost(t, change);
  host.makeCgroup('a', [11]);
  host.makeCgroup('b1', [21]);
  host.makeCgroup('b2', [22]);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  host.feed('/b1', { run: 0.8, wait: 0.4 });
  host.feed('/b2', { run: 0.8, wait: 0.4 });
  await host.heartbeat('enforce');
  const wish = (over: Partial<Recommendation> = {}) =>
    recommend(host.clock.unixSeconds(), '/a', [move('/a', { weight: 6400 })], over);
  return { ...host, wish };
}

test('a recommendation goes through every state to observing, and the weight is set', async t => {
  const host = await contended(t);
  t.deepEqual(await host.recommend(host.wish()), { kind: 'ok' });
  t.deepEqual(host.states(), [
    'received',
    'validated',
    'admitted',
    'snapshotted',
    'applied',
    'observing',
  ]);
  t.is(host.read('a', 'cpu.weight'), '6400');
  const action = host.last();
  t.deepEqual(action?.allocations, [
    { resource: 'cgroup:/a:cpu.weight', before: '100', wanted: '6400', after: '6400' },
  ]);
  t.is(action?.mechanism, 'direct');
  t.is(action?.mode, 'enforce');
});

test('without a stamp, or with the stamp observe, a recommendation is a success on the wire and refused by mode', async t => {
  const host = await contended(t);
  t.deepEqual(await host.recommend(host.wish(), null), { kind: 'ok' });
  t.is(host.reason(), 'mode');
  await host.heartbeat('observe');
  t.deepEqual(await host.recommend(host.wish(), 'enforce'), { kind: 'ok' });
  t.is(host.reason(), 'mode');
  t.is(host.read('a', 'cpu.weight'), '100');
});

test('the strictest policy over the beneficiary and everything that is moved holds', async t => {
  const host = await contended(t, { policy: { instances: [{ match: '/b1', mode: 'observe' }] } });
  const moves = [move('/a', { weight: 6400 }), move('/b1', { weight: 50 })];
  await host.recommend(host.wish({ moves }));
  t.is(host.reason(), 'mode');
  await host.recommend(host.wish());
  t.is(host.last()?.state, 'observing');
});

test('expired, duplicate, replayed, wrong-host, unsigned, forged and malformed ones are recorded with a reason', async t => {
  const host = await contended(t);
  const now = host.clock.unixSeconds();
  await host.recommend(host.wish({ created: now - 60, expires: now - 1 }));
  t.is(host.reason(), 'expired');
  const old = host.wish({ created: now - 7200 });
  await host.recommend(old);
  t.is(host.reason(), 'replayed');
  const one = host.wish();
  await host.recommend(one, 'observe');
  await host.recommend(one, 'enforce');
  t.is(host.reason(), 'duplicate');
  t.is((await host.recommend(host.wish({ hostId: 'host-2' }))).kind, 'partial');
  t.is(host.reason(), 'wrong-host');
  t.regex(host.last()?.reason?.message ?? '', /got host-2; wanted this host, host-1/);
  const forged = await host.recommend(host.wish(), 'enforce', generateKeys().privateKey);
  t.is(forged.kind, 'partial');
  t.is(host.reason(), 'bad-signature');
  t.is((await host.raw({ [attr.payload]: '{}' })).kind, 'partial');
  t.is(host.reason(), 'unsigned');
  const bad = signedEvent(
    'sculptor.recommendation',
    { id: one.id, leaseSeconds: 'long' } as never,
    host.keys.privateKey,
    'x',
  );
  t.is((await host.raw(bad.attributes as Record<string, string>)).kind, 'partial');
  t.is(host.reason(), 'malformed');
  t.is(host.last()?.recommendationId, one.id);
  t.true(host.told.every(action => action.state === 'received' || action.state === 'rejected'));
  t.is(host.read('a', 'cpu.weight'), '100');
});

test('an OTLP message that is cut in the middle is refused with its offset', async t => {
  const host = await contended(t);
  await t.throwsAsync(host.intake.logs(Buffer.from([0x0a, 0x55, 0x01])), {
    message: /offset|byte/,
  });
});

test('what comes from the sculptor itself is no input', async t => {
  const host = await contended(t);
  await host.recommend(host.wish(), 'enforce', host.keys.privateKey, scopes.sculptor);
  t.deepEqual(host.told, []);
  t.is(host.intake.counters()['ignored.own-scope'], 1);
});

test('what a guest says is no input, signed or not', async t => {
  const host = await contended(t);
  const resource = {
    [attr.hostId]: hostId,
    [attr.instanceId]: '/a',
    [attr.origin]: guestOrigin,
  };
  const event = signedEvent('sculptor.recommendation', host.wish(), host.keys.privateKey, 'x');
  const encode = eventEncoder(scopes.engine, resource);
  await host.intake.logs(Buffer.from(encode(event, host.clock.unixSeconds())));
  t.deepEqual(host.told, []);
  const known = host.series.instances(0);
  const points = [counter('container.cpu.time', 1), counter('sculptor.runqueue.wait', 1)];
  const metrics = serialize(resourceMetrics({ ...resource, [attr.instanceId]: '/new' }, points));
  await host.intake.metrics(Buffer.from(metrics));
  t.deepEqual(host.series.instances(0), known);
  t.is(host.intake.counters()['ignored.guest'], 3);
});

test('a copy in the attributes is never acted on', async t => {
  const host = await contended(t);
  const event = signedEvent('sculptor.recommendation', host.wish(), host.keys.privateKey, 'x');
  await host.raw({
    ...(event.attributes as Record<string, string>),
    [attr.hostId]: 'another',
    [attr.mode]: 'enforce',
    'sculptor.mechanism': 'mirror',
  });
  t.is(host.last()?.mechanism, 'direct');
});

test('each thing that is wrong with a move is a rejection that names it', async t => {
  const host = await contended(t);
  const cases = [
    [{ cpus: [9] }, [], 'cpu-offline'],
    [{ cpus: [1] }, [{ kind: 'thread', tid: 99, startTicks: 1 }], 'task-ended'],
    [{ cpus: [1] }, [{ kind: 'thread', tid: 11, startTicks: 1 }], 'tid-reused'],
    [{ cpus: [1] }, [{ kind: 'thread', tid: 21, startTicks: 5021 }], 'not-found'],
    [{ memoryNodes: [0] }, [], 'no-actuator'],
    [{ sliceSeconds: 0.001 }, [], 'no-actuator'],
  ] as const;
  for (const [set, tasks, code] of cases) {
    const moves = [move('/a', set as never, [...tasks] as never)];
    await host.recommend(host.wish({ moves }));
    t.is(host.reason(), code);
    t.is(host.last()?.state, 'rejected');
    t.deepEqual(
      host.last()?.mechanisms.map(each => each.mechanism),
      ['direct', 'shadow', 'mirror'],
    );
    t.regex(host.last()?.mechanisms[2]?.answer ?? '', /^no provider: /);
  }
  await host.recommend(host.wish({ moves: [move('/gone', { weight: 5 })] }));
  t.is(host.reason(), 'not-found');
  host.makeCgroup('docker/x');
  await host.recommend(host.wish({ moves: [move('/docker/x', { weight: 5 })] }));
  t.is(host.reason(), 'owned');
  await host.recommend(host.wish({ mechanism: 'shadow' }));
  t.is(host.reason(), 'no-provider');
});

test('no telemetry, stale telemetry and no contention are rejections', async t => {
  const host = fakeHost(t);
  host.makeCgroup('a');
  await host.heartbeat('enforce');
  const wish = () => recommend(host.clock.unixSeconds(), '/a', [move('/a', { weight: 6400 })]);
  await host.recommend(wish());
  t.is(host.reason(), 'no-telemetry');
  host.feed('/a', { run: 0.3, wait: 0.01 });
  await host.recommend(wish());
  t.is(host.reason(), 'not-contended');
  host.clock.step(16);
  await host.heartbeat('enforce');
  await host.recommend(wish());
  t.is(host.reason(), 'stale-telemetry');
});

test('protected instances, pinning and the root are left alone', async t => {
  const host = await contended(t, {
    policy: {
      instances: [
        { match: '/b1', protected: true },
        { match: '/b2', allowWidening: true },
      ],
    },
  });
  await host.recommend(host.wish({ moves: [move('/b1', { idle: true })] }));
  t.is(host.reason(), 'protected');
  host.threads.set(11, { cpus: [0], startTicks: 5011, own: true });
  await host.recommend(host.wish({ moves: [move('/a', { cpus: [0, 1] })] }));
  t.is(host.reason(), 'widening-not-allowed');
  host.threads.set(22, { cpus: [0], startTicks: 5022, own: true });
  await host.recommend(host.wish({ moves: [move('/b2', { cpus: [0, 1] })] }));
  t.is(host.last()?.state, 'observing');
  t.deepEqual(host.threads.get(22)?.cpus, [0, 1]);
});

test('what is below a moved cgroup is protected too: without telemetry, and as a VM of another id', async t => {
  const vm = '1b671a64-40d5-491e-99b0-da01ff1f3341';
  const host = await contended(t, {
    policy: {
      instances: [
        { match: '/b1/deep/*', protected: true },
        { match: vm, protected: true },
      ],
    },
  });
  const idle = (id: string) => host.recommend(host.wish({ moves: [move(id, { idle: true })] }));
  host.makeCgroup('b1/deep/silent', [41]);
  await idle('/b1');
  t.is(host.reason(), 'protected');
  t.regex(host.last()?.reason?.message ?? '', /^instance \/b1\/deep\/silent: /);
  host.makeCgroup('b2/machine', [31]);
  host.write('b2/machine', 'cgroup.procs', '31');
  writeFileSync(join(host.folder, 'proc/31/cmdline'), `qemu-system-x86_64\0-uuid\0${vm}\0`);
  for (const id of ['/b2', '/b2/machine']) {
    await idle(id);
    t.is(host.reason(), 'protected', id);
    t.regex(host.last()?.reason?.message ?? '', /^instance 1b671a64-/);
  }
});

test('instances below a moved cgroup count for the share that may be moved', async t => {
  const host = await contended(t, { policy: { limits: { maxTouchedRatio: 0.5 } } });
  for (const name of ['b1/x', 'b1/y']) {
    host.makeCgroup(name);
    host.feed(`/${name}`, { run: 0.1, wait: 0 });
  }
  await host.recommend(host.wish({ moves: [move('/b1', { idle: true })] }));
  t.deepEqual([host.last()?.state, host.reason()], ['deferred', 'limit']);
  t.regex(host.last()?.reason?.message ?? '', /^3 of 5 instances/);
});

test('another way to write the path of a protected cgroup leads around nothing', async t => {
  const host = await contended(t, { policy: { instances: [{ match: '/b1', protected: true }] } });
  for (const id of ['/b1/', '//b1', '/./b1', '/a/../b1', 'a/../b1', '/b1/.']) {
    const answer = await host.recommend(host.wish({ moves: [move(id, { idle: true })] }));
    t.is(answer.kind, 'partial', id);
    t.is(host.reason(), 'malformed', id);
  }
  const tasks = [{ kind: 'class', cgroup: '/a/../b1' }] as const;
  await host.recommend(host.wish({ moves: [move('/a', { cpus: [1] }, [...tasks])] }));
  t.is(host.reason(), 'malformed');
  t.is(host.read('b1', 'cpu.idle'), '0');
  t.deepEqual(host.threads.get(21)?.cpus, [0, 1, 2, 3]);
});

test('what may bring less than the policy wants is refused, whatever the engine was told', async t => {
  const host = await contended(t, { policy: { minGainRatio: 0.5 } });
  const { predicted } = host.wish();
  await host.recommend(host.wish({ predicted: { ...predicted, interval: [0.49, 0.9] } }));
  t.deepEqual([host.last()?.state, host.reason()], ['rejected', 'limit']);
  t.regex(host.last()?.reason?.message ?? '', /as little as 0\.490 .* at least 0\.5/);
  await host.recommend(host.wish({ predicted: { ...predicted, interval: [0.5, 0.9] } }));
  t.is(host.last()?.state, 'observing');
});

test('limits defer: overlap, in flight, per hour, share of instances, change windows', async t => {
  const host = await contended(t, {
    policy: { limits: { actionsInFlight: 1, actionsPerInstancePerHour: 2, maxTouchedRatio: 1 } },
  });
  await host.recommend(host.wish());
  t.is(host.last()?.state, 'observing');
  const { id } = host.last() ?? { id: '' };
  await host.recommend(host.wish());
  t.deepEqual([host.last()?.state, host.reason()], ['deferred', 'overlap']);
  await host.recommend(recommend(host.clock.unixSeconds(), '/b1', [move('/b1', { weight: 500 })]));
  t.deepEqual([host.last()?.state, host.reason()], ['deferred', 'limit']);
  const expires = host.clock.unixSeconds() + 30;
  const created = host.clock.unixSeconds();
  await host.withdraw({
    id: host.wish().id,
    created,
    expires,
    hostId,
    actionId: id,
    reason: 'calm',
  });
  t.deepEqual([host.last()?.state, host.reason()], ['restored', 'withdrawn']);
  t.is(host.read('a', 'cpu.weight'), '100');
  await host.recommend(host.wish());
  t.is(host.last()?.state, 'observing');
  await host.withdraw({
    ...{ id: host.wish().id, created, expires, hostId, reason: 'calm' },
    actionId: host.last()?.id ?? '',
  });
  await host.recommend(host.wish());
  t.deepEqual([host.last()?.state, host.reason()], ['deferred', 'limit']);

  const share = await contended(t, { policy: { limits: { maxTouchedRatio: 0.5 } } });
  const moves = [move('/b1', { idle: true }), move('/b2', { idle: true })];
  await share.recommend(share.wish({ moves }));
  t.deepEqual([share.last()?.state, share.reason()], ['deferred', 'limit']);

  const never = { days: [(new Date(host.clock.unixSeconds() * 1000).getDay() + 3) % 7] };
  const windows = await contended(t, {
    policy: { changeWindows: [{ ...never, from: '00:00', to: '23:59' }] },
  });
  await windows.recommend(windows.wish());
  t.is(windows.reason(), 'window');
});

test('without a heartbeat for 3 s no action starts', async t => {
  const host = await contended(t);
  host.clock.step(4);
  host.feed('/a', { run: 0.2, wait: 0.3 });
  await host.recommend(host.wish());
  t.is(host.reason(), 'no-heartbeat');
});

test('older, equal and long recorded heartbeats change nothing, also after a restart', async t => {
  const host = await contended(t);
  await host.heartbeat('observe');
  await host.heartbeat('enforce', { sequence: 1 });
  t.is(host.permission.mode(), 'observe');
  t.is(host.intake.counters()['ignored.older-heartbeat'], 1);
  await host.heartbeat('enforce', { created: host.clock.unixSeconds() - 600 });
  t.is(host.permission.mode(), 'observe');
  t.is(host.intake.counters()['ignored.stale-heartbeat'], 1);
  const newest = host.journal.newestHeartbeat();
  t.is(newest?.sequence, 2);
});

test('after the clock was set back an engine that is started anew is heard, and none before it', async t => {
  const host = await contended(t);
  const now = host.clock.unixSeconds();
  const early = { epoch: (now + 86_400) * 1000 };
  await host.heartbeat('observe', { ...early, sequence: 2 });
  await host.heartbeat('enforce', { ...early, sequence: 1 });
  t.is(host.permission.mode(), 'observe', 'of one engine the order holds');
  t.is(host.permission.engineStarted(), null, 'what it says now was not said before its start');
  await host.heartbeat('enforce', { epoch: now * 1000, sequence: 1 });
  t.is(host.permission.mode(), 'enforce');
  t.is(host.permission.engineStarted(), now);
  await host.heartbeat('observe', { epoch: (now - 1) * 1000, sequence: 9 });
  t.is(host.permission.mode(), 'enforce');
});

test('in approve an action is parked, goes ahead on a yes after another look, and expires after 10 minutes', async t => {
  const host = await contended(t, { policy: { limits: { maxTouchedRatio: 1 } } });
  await host.heartbeat('approve');
  await host.recommend(host.wish());
  t.deepEqual([host.last()?.state, host.reason()], ['parked', 'approval-needed']);
  const parked = host.last()?.id ?? '';
  await host.recommend(host.wish());
  t.deepEqual([host.last()?.state, host.reason()], ['deferred', 'approval-needed']);
  t.is(host.reception.parked().length, 1, 'the same moves are asked for once');
  t.is(host.read('a', 'cpu.weight'), '100');
  host.reception.approve(parked);
  t.is(host.last()?.state, 'observing');
  t.is(host.read('a', 'cpu.weight'), '6400');
  t.throws(() => host.reception.approve(parked), { message: /does not wait/ });

  const other = recommend(host.clock.unixSeconds(), '/b1', [move('/b1', { weight: 500 })]);
  await host.recommend(other);
  const late = host.last()?.id;
  t.is(host.last()?.state, 'parked');
  host.clock.step(601);
  host.reception.tick();
  t.deepEqual([host.last()?.id, host.reason()], [late, 'approval-expired']);
});

test('a yes is asked against the present: what ended meanwhile is rejected', async t => {
  const host = await contended(t);
  await host.heartbeat('approve');
  const tasks = [{ kind: 'thread', tid: 11, startTicks: 5011 }] as const;
  await host.recommend(host.wish({ moves: [move('/a', { cpus: [1] }, [...tasks])] }));
  const parked = host.last()?.id ?? '';
  host.threads.delete(11);
  host.reception.approve(parked);
  t.deepEqual([host.last()?.state, host.reason()], ['rejected', 'task-ended']);
});

test('a renewal extends the lease; other moves, or no running action, are refused', async t => {
  const host = await contended(t);
  await host.recommend(host.wish({ leaseSeconds: 10 }));
  const running = host.last();
  await host.recommend(host.wish({ renews: running?.id ?? '', leaseSeconds: 100 }));
  t.is(host.reason(), 'renewed');
  t.is(host.last()?.id, running?.id);
  t.is(host.executor.running().length, 1);
  const moves = [move('/a', { weight: 1 })];
  await host.recommend(host.wish({ renews: running?.id ?? '', moves }));
  t.is(host.reason(), 'malformed');
  await host.recommend(host.wish({ renews: running?.id ?? '', beneficiary: instance('/b1') }));
  t.is(host.reason(), 'malformed');
  await host.recommend(host.wish({ renews: host.wish().id }));
  t.is(host.reason(), 'not-found');
});

test('in approve a renewal needs no new yes for an hour', async t => {
  const host = await contended(t);
  await host.heartbeat('approve');
  await host.recommend(host.wish({ leaseSeconds: 3600 }));
  host.reception.approve(host.last()?.id ?? '');
  const running = host.last()?.id ?? '';
  await host.recommend(host.wish({ renews: running }));
  t.is(host.reason(), 'renewed');
  host.clock.step(3601);
  await host.heartbeat('approve');
  await host.recommend(host.wish({ renews: running }));
  t.is(host.reason(), 'approval-needed');
});

test('a renewal that waits for a yes waits no longer than the action it would renew runs', async t => {
  const host = await contended(t);
  await host.heartbeat('approve');
  await host.recommend(host.wish({ leaseSeconds: 3600 }));
  host.reception.approve(host.last()?.id ?? '');
  const running = host.last()?.id ?? '';
  host.clock.step(3000);
  await host.heartbeat('approve');
  await host.recommend(host.wish({ renews: running, leaseSeconds: 700 }));
  host.clock.step(601);
  await host.heartbeat('approve');
  await host.recommend(host.wish({ renews: running }));
  const renewal = host.last()?.id;
  host.reception.tick();
  t.is(host.reception.parked().length, 1);
  host.clock.step(100);
  host.executor.tick();
  host.reception.tick();
  t.deepEqual(host.reception.parked(), []);
  t.deepEqual([host.last()?.id, host.reason()], [renewal, 'not-found']);
});

test('setCeiling is journalled and holds after a restart', async t => {
  const host = await contended(t);
  host.permission.setCeiling('observe');
  await host.recommend(host.wish());
  t.is(host.reason(), 'mode');
  host.end();
  const next = fakeHost(t, { policy: { ceiling: 'enforce' } }, host.folder);
  t.is(next.permission.ceiling(), 'observe');
});

test('what was set once does not hold against a configuration that was changed since', async t => {
  let host: ReturnType<typeof fakeHost> = await contended(t, { policy: { ceiling: 'approve' } });
  const again = (ceiling: string): string => {
    host.end();
    host = fakeHost(t, { policy: { ceiling } }, host.folder);
    return host.permission.ceiling();
  };
  host.permission.setCeiling('enforce');
  t.is(again('approve'), 'enforce');
  t.is(again('observe'), 'observe');
  host.permission.setCeiling('observe');
  t.is(again('enforce'), 'observe');
});

test('a stricter stamp holds also where the journal cannot be written; the same one is not heard', async t => {
  const host = await contended(t);
  host.journal.db.exec('PRAGMA query_only = 1');
  host.clock.step(2);
  await t.throwsAsync(host.heartbeat('enforce'), { message: /readonly/ });
  t.is(host.permission.heartbeatAge(), 2);
  await t.throwsAsync(host.heartbeat('off'), { message: /readonly/ });
  t.is(host.permission.mode(), 'off');
});

test('a stricter ceiling holds also where the journal cannot be written; a laxer one does not', async t => {
  const host = await contended(t);
  host.journal.db.exec('PRAGMA query_only = 1');
  t.throws(() => host.permission.setCeiling('observe'), {
    code: 'JOURNAL',
    message: /^the ceiling is observe now, but .* a restart will not know of it: .*readonly/,
  });
  t.is(host.permission.mode(), 'observe');
  t.throws(() => host.permission.setCeiling('enforce'), { message: /readonly/ });
  t.is(host.permission.mode(), 'observe');
});

test('what still comes when the sculptor ends is refused: nobody would give it back', async t => {
  const host = await contended(t);
  host.reception.close();
  await host.recommend(host.wish());
  t.deepEqual([host.last()?.state, host.reason()], ['rejected', 'shutdown']);
  t.is(host.read('a', 'cpu.weight'), '100');
});

test('a yes that cannot be written down leaves the action waiting', async t => {
  const host = await contended(t);
  await host.heartbeat('approve');
  await host.recommend(host.wish());
  const id = host.last()?.id ?? '';
  host.journal.db.exec('PRAGMA query_only = 1');
  t.throws(() => host.reception.approve(id), { message: /readonly/ });
  host.journal.db.exec('PRAGMA query_only = 0');
  host.reception.approve(id);
  t.is(host.last()?.state, 'observing');
});

test('the epoch of an engine whose clock was ahead holds nobody off once the clock is right', async t => {
  const host = await contended(t);
  const nextYear = (host.clock.unixSeconds() + 31_536_000) * 1000;
  await host.heartbeat('enforce', { epoch: nextYear });
  t.is(host.intake.counters()['heartbeats'], 2);
  await host.heartbeat('observe');
  t.is(host.permission.mode(), 'observe');
  await host.heartbeat('enforce');
  await host.recommend(host.wish());
  t.is(host.last()?.state, 'observing');
});

test('points from before the clock was set back are stale', async t => {
  const host = await contended(t);
  host.clock.setWall(-60);
  await host.heartbeat('enforce');
  await host.recommend(host.wish());
  t.is(host.reason(), 'stale-telemetry');
});
