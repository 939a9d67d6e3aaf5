import { AggregationTemporality } from '@opentelemetry/sdk-metrics';
import test from 'ava';
import { createGuestViewer } from '../../../src/agent/gate/guest-view.ts';
import { counter, resourceMetrics, serialize } from '../../otlp/support.ts';

const waited = (seconds: number, cpu: unknown = 0) =>
  counter('sculptor.cpu.runqueue.wait', seconds, { 'cpu.logical_number': cpu as number });
const stolen = (seconds: number, index = 0) =>
  counter('sculptor.vcpu.steal', seconds, { 'sculptor.vcpu.index': index });
const said = (by: string, ...metrics: ReturnType<typeof counter>[]) =>
  Buffer.from(serialize(resourceMetrics({ 'service.instance.id': by }, metrics)));
const request = (...metrics: ReturnType<typeof counter>[]) => said('agent', ...metrics);

test('what a guest says of its vCPUs counts from when it was first heard of', t => {
  const viewer = createGuestViewer();
  viewer.look(request(waited(100), stolen(50), waited(7, 1)), 1000);
  t.deepEqual(viewer.view().get(0), { start: 1000, at: 1000, waitSeconds: 0, stealSeconds: 0 });
  viewer.look(request(waited(103), stolen(52)), 1010);
  t.deepEqual(viewer.view().get(0), { start: 1000, at: 1010, waitSeconds: 3, stealSeconds: 2 });
  t.deepEqual(viewer.view().get(1), { start: 1000, at: 1000, waitSeconds: 0, stealSeconds: 0 });
});

test('an agent in a guest that began anew makes no counter fall', t => {
  const viewer = createGuestViewer();
  for (const [seconds, now] of [
    [100, 0],
    [103, 10],
    [1, 20],
    [2, 30],
  ] as const)
    viewer.look(request(waited(seconds)), now);
  t.is(viewer.view().get(0)?.waitSeconds, 5);
});

const at = (seconds: number, startTime: number, endTime: number) => {
  const metric = waited(seconds);
  const dataPoints = metric.dataPoints.map(point => ({
    ...{ ...point, startTime: [startTime, 0], endTime: [endTime, 0] },
  }));
  return request({ ...metric, dataPoints } as typeof metric);
};

test('a point that comes after a newer one is no new beginning', t => {
  const viewer = createGuestViewer();
  for (const [seconds, endTime] of [
    [100, 300],
    [103, 320],
    [101, 310],
    [104, 330],
  ] as const)
    viewer.look(at(seconds, 100, endTime), endTime);
  t.is(viewer.view().get(0)?.waitSeconds, 4);
});

test('an agent that began anew is heard also where the clock of its guest was set back', t => {
  const viewer = createGuestViewer();
  viewer.look(at(100, 1000, 2000), 1);
  viewer.look(at(2, 500, 600), 2);
  viewer.look(at(3, 500, 610), 3);
  t.is(viewer.view().get(0)?.waitSeconds, 3);
});

test('of two agents in one guest the first is listened to, until it is silent', t => {
  const viewer = createGuestViewer();
  for (const [by, seconds, now] of [
    ['first', 100, 0],
    ['second', 7, 1],
    ['first', 102, 2],
    ['second', 9, 3],
    ['second', 50, 63],
    ['second', 51, 64],
  ] as const)
    viewer.look(said(by, waited(seconds)), now);
  t.is(viewer.view().get(0)?.waitSeconds, 3);
});

test('an agent is silent when a minute has passed in which it said nothing of vCPUs', t => {
  for (const [seconds, waitSeconds] of [
    [60, 0],
    [61, 5],
  ] as const) {
    const viewer = createGuestViewer();
    viewer.look(said('first', waited(100)), 1000);
    const besides = [said('first', counter('m', 1)), said('third', waited(3))];
    viewer.look(Buffer.concat(besides), 1030);
    viewer.look(said('second', waited(7)), 1000 + seconds);
    viewer.look(said('second', waited(12)), 1001 + seconds);
    t.is(viewer.view().get(0)?.waitSeconds, waitSeconds, `${seconds} s`);
  }
});

test('an agent that takes the place of another is heard also where the clock of the host was set back', t => {
  const viewer = createGuestViewer();
  viewer.look(said('first', waited(100)), 10_000);
  viewer.look(said('second', waited(7)), 5000);
  viewer.look(said('second', waited(12)), 5010);
  t.is(viewer.view().get(0)?.waitSeconds, 5);
});

test('what cannot be a vCPU, or a count, is not believed', t => {
  const viewer = createGuestViewer();
  const lies = [waited(1, 4096), waited(1, -1), waited(1, 'x'), waited(1, 0.5), waited(Number.NaN)];
  viewer.look(request(...lies, waited(Number.POSITIVE_INFINITY), waited(-3), waited(3.2e9)), 0);
  const delta = { ...waited(1), aggregationTemporality: AggregationTemporality.DELTA };
  viewer.look(request(delta), 0);
  t.is(viewer.view().size, 0);
  viewer.look(request(waited(0, 4095)), 0);
  t.is(viewer.view().size, 1);
});

test('a request that has nothing of vCPUs is not even decoded', t => {
  const viewer = createGuestViewer();
  t.notThrows(() => viewer.look(Buffer.from('not OTLP at all'), 0));
  t.throws(() => viewer.look(Buffer.from('not OTLP: sculptor.vcpu.steal'), 0), {
    code: 'OTLP_MALFORMED',
  });
});
