import test from 'ava';
import type { GateOptions } from '../../../src/agent/gate/gate.ts';
import { startTelling } from '../../../src/agent/gate/tell.ts';
import { until } from '../../support/sockets.ts';
import { steppedClock } from '../../support/stepped-clock.ts';
import { startSink } from './support.ts';

const host: GateOptions['host'] = { hostId: 'the-host', hostName: 'host.example' };

test('what the gate counts is told as the host’s each interval, from when it began, until it ends', async t => {
  const sink = await startSink(t);
  const clock = steppedClock(1000);
  let [records, seconds, asked] = [3, 10, 0];
  const telling = startTelling({
    gate: {
      samples: start => {
        asked += 1;
        return [{ metric: 'sculptor.gate.records', start, value: records }];
      },
    },
    endpoint: sink.endpoint,
    host,
    intervalSeconds: () => seconds,
    clock,
  });
  const points = () => sink.resources.flatMap(each => each.points);
  clock.step(9);
  t.is(asked, 0);
  clock.step(1);
  t.is(asked, 1);
  await until(() => points().length === 1);
  [records, seconds] = [5, 1];
  // None is asked for while an export is under way: the answer to the one before may not have come yet.
  await until(() => {
    clock.step(10);
    return points().some(({ value }) => value === 5);
  });
  t.deepEqual([points()[0]?.value, points()[0]?.time], [3, 1010]);
  t.true(points().every(({ start }) => start === 1000));
  t.like(sink.resources[0]?.resource, { 'host.id': 'the-host', 'sculptor.instance.kind': 'host' });
  await telling.stop();
  const before = asked;
  clock.step(100);
  t.is(asked, before);
});
