import test from 'ava';
import { detailAttribute } from '../../src/contract/events.ts';
import type { Placement, Topology } from '../../src/contract/host.ts';
import { attr, guestOrigin } from '../../src/contract/metrics.ts';
import type { MetricPoint, ResourcePoints } from '../../src/contract/telemetry.ts';
import { placement, resourcePoints, startStream, topology } from './stream.ts';

const instances = [{ id: '/critical', load: { used: 0.2, wait: 0.35 } }];

const point = (metric: string, time: number, value: number): MetricPoint => ({
  metric,
  unit: 's',
  type: 'sum',
  monotonic: true,
  temporality: 'cumulative',
  attributes: {},
  start: 1,
  time,
  value,
});

test('what a guest says of itself is no observation, neither of it nor of the host', t => {
  const { intake, core, run, now } = startStream(instances, []);
  run(1);
  const before = core.series.recent('/critical', 100);
  const points = ['container.cpu.time', 'sculptor.runqueue.wait', 'system.cpu.time'].map(metric =>
    point(metric, now() + 0.1, 1e6),
  );
  const idle = new Map(core.host.idle);
  for (const kind of ['cgroup', 'vm', 'host']) {
    const resource = {
      [attr.instanceId]: '/critical',
      [attr.instanceKind]: kind,
      [attr.origin]: guestOrigin,
    };
    t.deepEqual(intake.metrics([{ resource, points }]), []);
  }
  t.deepEqual(core.series.recent('/critical', 100), before);
  t.deepEqual(core.host.idle, idle);
  t.is(intake.counters().guest, 9);
});

test('what another host says is no input: it has instances by the same ids', t => {
  const { intake, core, run, now } = startStream(instances, []);
  core.host.id = 'host';
  run(1);
  const before = core.series.recent('/critical', 100);
  const { resource, points } = resourcePoints('/critical', now() + 1, {
    used: 1e6,
    wait: 0,
    throttled: 0,
  });
  const of = (hostId: string) => ({ resource: { ...resource, [attr.hostId]: hostId }, points });
  t.deepEqual(intake.metrics([of('other')]), []);
  t.deepEqual(core.series.recent('/critical', 100), before);
  const event = (record: Topology | Placement, eventName: string) => ({
    eventName,
    time: 1,
    body: '',
    attributes: { [detailAttribute]: record as never },
    resource: {},
    scope: 'sculptor.agent',
  });
  const ended = { ...placement({ id: '/critical', load: { used: 0 } }, [0]), alive: false };
  for (const told of [
    event({ ...topology(64), hostId: 'other' }, 'sculptor.topology'),
    event({ ...ended, hostId: 'other' }, 'sculptor.placement'),
  ])
    t.regex(intake.events([told])[0] ?? '', /hostId: got other; wanted .* host/);
  t.is(core.host.topology?.cpus.length, 2);
  t.true(core.host.placements.has('/critical'));
  t.is(intake.counters().otherHost, 5);
  t.deepEqual(intake.metrics([of('host')]), ['/critical']);
});

test('the host is that of whom an agent tells first, be it series alone; other tools call it by other names', t => {
  const { intake, core, now } = startStream(instances, []);
  core.host.topology = null;
  const { resource, points } = resourcePoints('/critical', now(), {
    used: 0,
    wait: 0,
    throttled: 0,
  });
  const of = (more: ResourcePoints['resource']) => [{ resource: more, points }];
  intake.metrics(of({ [attr.hostId]: 'i-0123' }));
  intake.metrics(of({ ...resource, [attr.hostId]: 'guest', [attr.origin]: guestOrigin }));
  t.is(core.host.id, null);
  intake.metrics(of({ ...resource, [attr.hostId]: 'host' }));
  intake.metrics(of({ ...resource, [attr.hostId]: 'other' }));
  intake.metrics(of({ [attr.hostId]: 'i-0123' }));
  t.is(core.host.id, 'host');
  t.is(intake.counters().otherHost, points.length);
});

test('an event of a guest is no input, whatever its name', t => {
  const { intake, core } = startStream(instances, []);
  const known = core.host.topology;
  const event = {
    eventName: 'sculptor.topology',
    time: 1,
    body: '',
    attributes: {},
    resource: { [attr.origin]: guestOrigin },
    scope: 'sculptor.agent',
  };
  t.deepEqual(intake.events([event]), []);
  t.is(core.host.topology, known);
  t.is(intake.counters().guest, 1);
});
