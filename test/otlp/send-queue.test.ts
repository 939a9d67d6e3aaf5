import test from 'ava';
import type { SendResult } from '../../src/otlp/export-client.ts';
import { createSendQueue, type SendQueueOptions } from '../../src/otlp/send-queue.ts';
import { steppedClock } from '../support/stepped-clock.ts';

const ok: SendResult = { kind: 'ok' };
const dead: SendResult = {
  kind: 'retry',
  afterSeconds: null,
  reason: 'UNAVAILABLE: no connection',
};
const bad: SendResult = { kind: 'refused', reason: 'INVALID_ARGUMENT: byte 3' };

/** A queue to a peer whose answers the test gives, one by one; `timers`: how many are set. */
function setUp(options: Partial<SendQueueOptions> = {}) {
  const stepped = steppedClock();
  let timers = 0;
  const clock = {
    ...stepped,
    after: (seconds: number, run: () => void) => {
      let isSet = true;
      timers += 1;
      const end = () => {
        if (isSet) timers -= 1;
        isSet = false;
      };
      const cancel = stepped.after(seconds, () => {
        end();
        run();
      });
      return () => {
        end();
        cancel();
      };
    },
  };
  const sent: string[] = [];
  const answers: ((result: SendResult) => void)[] = [];
  let closed = false;
  const queue = createSendQueue({
    client: {
      send: request => {
        sent.push(Buffer.from(request).toString());
        return new Promise(resolve => answers.push(resolve));
      },
      close: () => {
        closed = true;
      },
    },
    clock,
    maxRequests: 10,
    maxBytes: 1000,
    maxAgeSeconds: 60,
    ...options,
  });
  return {
    queue,
    clock,
    timers: () => timers,
    sent,
    push: (text: string) => queue.push(Buffer.from(text)),
    answer: async (result: SendResult) => {
      answers.shift()?.(result);
      await new Promise(resolve => setImmediate(resolve));
    },
    closed: () => closed,
  };
}

test('a request is sent at once', t => {
  const { sent, push } = setUp();
  push('a');
  t.deepEqual(sent, ['a']);
});

test('what comes while one is in flight goes together in the next', async t => {
  const { queue, sent, push, answer } = setUp();
  for (const text of ['a', 'b', 'c']) push(text);
  await answer(ok);
  await answer(ok);
  t.deepEqual(sent, ['a', 'bc']);
  t.deepEqual(queue.counters(), { sent: 3 });
  t.is(queue.lastFailure(), null);
});

test('what the other end cannot take is sent again after growing pauses, with what came meanwhile', async t => {
  const { queue, clock, sent, push, answer } = setUp();
  push('a');
  await answer(dead);
  push('b');
  t.is(queue.lastFailure(), 'UNAVAILABLE: no connection');
  clock.step(0.049);
  t.deepEqual(sent, ['a']);
  clock.step(0.002);
  t.deepEqual(sent, ['a', 'ab']);
  await answer(dead);
  clock.step(0.09);
  t.is(sent.length, 2);
  clock.step(0.02);
  await answer(ok);
  t.deepEqual(sent, ['a', 'ab', 'ab']);
  t.deepEqual(queue.counters(), { retries: 2, sent: 2 });
});

test('a delay that the other end asks for is kept', async t => {
  const { clock, sent, push, answer } = setUp();
  push('a');
  await answer({ kind: 'retry', afterSeconds: 7, reason: 'full' });
  clock.step(6.9);
  t.is(sent.length, 1);
  clock.step(0.2);
  t.is(sent.length, 2);
});

test('a delay of nothing, or less, is the first pause: the other end is not sent the same again and again', async t => {
  for (const afterSeconds of [0, -5]) {
    const { clock, sent, push, answer } = setUp();
    push('a');
    for (let i = 0; i < 1000; i += 1) {
      await answer({ kind: 'retry', afterSeconds, reason: 'full' });
      clock.step(0.001);
    }
    t.true(sent.length > 1 && sent.length < 25, `${sent.length} sends in 1 s`);
  }
});

test('a delay of an hour is not', async t => {
  const { clock, sent, push, answer } = setUp();
  push('a');
  await answer({ kind: 'retry', afterSeconds: 3600, reason: 'full' });
  clock.step(31);
  t.is(sent.length, 2);
});

test('a full queue drops the oldest and counts it', async t => {
  const { queue, clock, sent, push, answer } = setUp({ maxRequests: 3 });
  push('a');
  await answer(dead);
  for (const text of ['b', 'c', 'd']) push(text);
  t.false(queue.hasRoom(1));
  clock.step(1);
  t.deepEqual(sent, ['a', 'bcd']);
  t.is(queue.counters()['lost.queue-full'], 1);
});

test('the bytes that wait are bounded too', async t => {
  const { queue, push, answer } = setUp({ maxBytes: 10 });
  push('aaaaa');
  await answer(dead);
  t.true(queue.hasRoom(5));
  t.false(queue.hasRoom(6));
  push('bbbbbb');
  t.is(queue.counters()['lost.queue-full'], 1);
});

test('what waited too long is dropped and counted', async t => {
  const { queue, clock, sent, push, answer } = setUp({ maxAgeSeconds: 1 });
  push('a');
  await answer({ kind: 'retry', afterSeconds: 2, reason: 'full' });
  clock.step(1.5);
  push('b');
  clock.step(1);
  t.deepEqual(sent, ['a', 'b']);
  t.is(queue.counters()['lost.expired'], 1);
});

test('a request that is refused costs itself only', async t => {
  const { queue, sent, push, answer } = setUp();
  push('x');
  for (const text of ['a', 'BAD', 'c']) push(text);
  await answer(ok);
  await answer(bad);
  await answer(ok);
  await answer(bad);
  await answer(ok);
  for (const text of ['d', 'e', 'f']) push(text);
  t.deepEqual(sent, ['x', 'aBADc', 'a', 'BAD', 'c', 'd']);
  t.deepEqual(queue.counters(), { sent: 3, 'lost.refused': 1 });
  await answer(ok);
  t.is(sent.at(-1), 'ef', 'those after it go together again');
});

test('what comes back finds no room where others came meanwhile, and is counted', async t => {
  const { queue, clock, sent, push, answer } = setUp({ maxRequests: 3 });
  for (const text of ['a', 'b', 'c', 'd']) push(text);
  await answer(dead);
  clock.step(1);
  t.deepEqual(sent, ['a', 'bcd']);
  t.is(queue.counters()['lost.queue-full'], 1);
});

test('what is in flight may come back, and takes room meanwhile', t => {
  const byBytes = setUp({ maxBytes: 10 });
  byBytes.push('aaaaa');
  t.deepEqual([5, 6].map(byBytes.queue.hasRoom), [true, false]);
  const byRequests = setUp({ maxRequests: 2 });
  byRequests.push('a');
  t.true(byRequests.queue.hasRoom(1));
  byRequests.push('b');
  t.false(byRequests.queue.hasRoom(1));
});

test('a request that is larger than all may be is sent all the same, alone', async t => {
  const { queue, clock, sent, push, answer } = setUp({ maxBytes: 10 });
  push('a');
  await answer(dead);
  push('y'.repeat(20));
  clock.step(1);
  t.deepEqual(sent, ['a', 'y'.repeat(20)]);
  t.is(queue.counters()['lost.queue-full'], 1);
});

test('pauses grow to two seconds, and begin small again once the other end has taken something', async t => {
  const { clock, sent, push, answer } = setUp();
  push('a');
  for (let i = 0; i < 8; i += 1) {
    await answer(dead);
    clock.step(2);
  }
  await answer(ok);
  push('b');
  await answer(dead);
  clock.step(0.06);
  t.is(sent.at(-1), 'b');
  t.is(sent.length, 11);
});

test('records that the other end rejects are counted and not sent again', async t => {
  const { queue, sent, push, answer } = setUp();
  push('a');
  await answer({ kind: 'partial', rejected: 2, message: 'no id' });
  t.deepEqual(sent, ['a']);
  t.deepEqual(queue.counters(), { sent: 1, 'rejected-records': 2 });
  t.is(queue.lastFailure(), 'no id');
});

test('requests go together up to what a collector takes, and what is more than that goes alone', async t => {
  const { sent, push, answer } = setUp({ maxBytes: 100_000_000 });
  const sizes = [1, 2_000_000, 1_700_000, 1_700_000, 4_000_000, 1];
  for (const size of sizes) push('y'.repeat(size));
  for (const _ of sizes) await answer(ok);
  t.deepEqual(
    sent.map(text => text.length),
    [1, 2_000_000, 3_400_000, 4_000_000, 1],
  );
});

test('flush tells when nothing waits any more', async t => {
  const { queue, push, answer } = setUp();
  t.true(await queue.flush(1));
  push('a');
  push('b');
  const flushed = queue.flush(1);
  await answer(ok);
  await answer(ok);
  t.true(await flushed);
});

test('flush gives up after its time', async t => {
  const { queue, clock, push } = setUp();
  push('a');
  const flushed = queue.flush(1);
  clock.step(1);
  t.false(await flushed);
});

test('what is refused together after the stop is counted, and not sent again', async t => {
  const { queue, clock, sent, push, answer } = setUp();
  for (const text of ['x', 'a', 'b']) push(text);
  await answer(ok);
  const stopped = queue.stop(1);
  clock.step(1);
  await stopped;
  await answer(bad);
  t.deepEqual(sent, ['x', 'ab']);
  t.deepEqual(queue.counters(), { sent: 1, 'lost.refused': 2 });
});

test('stop tries once more at once, then counts what is left as lost', async t => {
  const { queue, clock, sent, push, answer, closed } = setUp();
  push('a');
  await answer({ kind: 'retry', afterSeconds: 20, reason: 'full' });
  const stopped = queue.stop(1);
  t.deepEqual(sent, ['a', 'a']);
  await answer(dead);
  clock.step(0.5);
  push('b');
  clock.step(1);
  await stopped;
  t.true(closed());
  push('c');
  await answer(dead);
  t.is(queue.counters()['lost.stopped'], 3);
});

test('a queue that was stopped leaves no timer behind, which would keep its process', async t => {
  const waits = setUp();
  waits.push('a');
  await waits.answer({ kind: 'retry', afterSeconds: 20, reason: 'full' });
  const stopped = waits.queue.stop(0.01);
  await waits.answer(dead);
  waits.clock.step(0.01);
  await stopped;
  t.is(waits.timers(), 0);
  const sends = setUp();
  sends.push('a');
  const flushed = sends.queue.stop(20);
  await sends.answer(ok);
  await flushed;
  t.is(sends.timers(), 0);
});
