import test from 'ava';
import { createMetricsExporter, type ExportResult } from '../../src/otlp/metrics-exporter.ts';
import { createOutbox } from '../../src/otlp/outbox.ts';
import { seriesKey, temporalityFrom } from '../../src/otlp/temporality.ts';

const nothing = [new Uint8Array()];

/** An exporter whose exports end when the test says so. */
function heldExporter() {
  const pending: ((result: ExportResult) => void)[] = [];
  let stopped = false;
  return {
    pending,
    isStopped: () => stopped,
    exporter: {
      // As the exporter, it has taken all of it when it returns.
      export: (written: Iterable<Uint8Array>) => {
        Array.from(written);
        return new Promise<ExportResult>(resolve => pending.push(resolve));
      },
      stop: async () => {
        stopped = true;
      },
    },
  };
}

const turn = () => new Promise(resolve => setImmediate(resolve));

test('one export is under way at most; what is skipped is not even made, and is counted', async t => {
  const { pending, exporter } = heldExporter();
  const outbox = createOutbox(exporter, temporalityFrom(undefined));
  t.true(outbox.send(() => nothing));
  t.false(outbox.send(() => t.fail('made') as never));
  pending[0]?.({ ok: true });
  await turn();
  t.true(outbox.send(() => nothing));
  pending[1]?.({ ok: false, why: 'failed', reason: 'UNAVAILABLE', untaken: [0] });
  await turn();
  t.deepEqual(outbox.lost(), { busy: 1, failed: 1, too_large: 0 });
  t.is(outbox.delivered(), 1);
  t.is(outbox.lastFailure(), 'UNAVAILABLE');
  outbox.send(() => nothing);
  pending[2]?.({ ok: true });
  await turn();
  t.is(outbox.lastFailure(), null);
  outbox.send(() => nothing);
  pending[3]?.({ ok: false, why: 'too_large', reason: '5 MB', untaken: [0] });
  await turn();
  t.deepEqual(outbox.lost(), { busy: 1, failed: 1, too_large: 1 });
});

test('where there is nothing to send, nothing is sent', t => {
  const { pending, exporter } = heldExporter();
  t.true(createOutbox(exporter, temporalityFrom(undefined)).send(() => null));
  t.is(pending.length, 0);
});

test('to stop tells the exporter, which gives what is under way its time, and waits for that', async t => {
  const { pending, exporter, isStopped } = heldExporter();
  const outbox = createOutbox(exporter, temporalityFrom(undefined));
  outbox.send(() => nothing);
  let ended = false;
  const stopped = outbox.stop().then(() => {
    ended = true;
  });
  await turn();
  t.true(isStopped());
  t.false(ended);
  pending[0]?.({ ok: true });
  await stopped;
  t.is(outbox.delivered(), 1);
});

test('a resource that cannot be made is an error of who sends, and the next export goes out', async t => {
  const exporter = createMetricsExporter({ endpoint: 'unix:///nowhere', timeoutSeconds: 1 });
  const outbox = createOutbox(exporter, temporalityFrom(undefined));
  const error = new Error('cannot be made');
  t.throws(
    () =>
      outbox.send(function* () {
        yield* [];
        throw error;
      }),
    { is: error },
  );
  t.true(outbox.send(() => []));
  await outbox.stop();
  t.deepEqual(outbox.lost(), { busy: 0, failed: 0, too_large: 0 });
});

test('delta: skipped and failed exports lose nothing', async t => {
  const { pending, exporter } = heldExporter();
  const temporal = temporalityFrom('delta');
  t.is(temporal.temporality, 'delta');
  const outbox = createOutbox(exporter, temporal);
  const told: unknown[] = [];
  const send = (now: number, value: number) =>
    outbox.send(() => {
      told.push(temporal.shape(() => 'k', { start: 1, value }, now).value);
      return nothing;
    });
  send(10, 5);
  send(11, 7);
  pending[0]?.({ ok: true });
  await turn();
  send(12, 9);
  pending[1]?.({ ok: false, why: 'failed', reason: 'UNAVAILABLE', untaken: [0] });
  await turn();
  send(13, 10);
  t.deepEqual(told, [5, 4, 5]);
});

test('delta: of what arrived nothing is sent again, be it with a partial success or beside a request that failed', async t => {
  const { pending, exporter } = heldExporter();
  const temporal = temporalityFrom('delta');
  const outbox = createOutbox(exporter, temporal);
  const told: unknown[] = [];
  const send = async (value: number, result: ExportResult) => {
    outbox.send(function* () {
      for (const key of ['a', 'b']) {
        told.push(temporal.shape(() => key, { start: 1, value }, value).value);
        yield new Uint8Array();
      }
    });
    pending.at(-1)?.(result);
    await turn();
  };
  await send(10, { ok: false, why: 'failed', reason: '1 points rejected', untaken: [] });
  t.true(outbox.hasArrived());
  await send(11, { ok: false, why: 'failed', reason: 'UNAVAILABLE', untaken: [1] });
  t.false(outbox.hasArrived());
  await send(12, { ok: true });
  t.deepEqual(told, [10, 10, 1, 1, 1, 2]);
  t.deepEqual(outbox.lost(), { busy: 0, failed: 2, too_large: 0 });
});

test('delta: what was shaped for an export that could not be made is not taken for told', async t => {
  const { pending, exporter } = heldExporter();
  const temporal = temporalityFrom('delta');
  const outbox = createOutbox(exporter, temporal);
  const tell = (key: string) => temporal.shape(() => key, { start: 1, value: 5 }, 2).value;
  t.throws(() =>
    outbox.send(() => {
      tell('b');
      throw new Error('cannot be made');
    }),
  );
  outbox.send(function* () {
    tell('a');
    yield new Uint8Array();
  });
  pending[0]?.({ ok: true });
  await turn();
  t.deepEqual([tell('a'), tell('b')], [0, 5]);
});

test('what delta keeps of a task goes when the task does', t => {
  const temporal = temporalityFrom('delta');
  const [task, instance] = [
    seriesKey('', 'sculptor.task.cpu.time', '7@100'),
    seriesKey('host/a', 'container.cpu.time', ''),
  ];
  for (const key of [task, instance]) temporal.shape(() => key, { start: 1, value: 5 }, 2);
  temporal.deliver(temporal.take());
  temporal.keepTasks(each => each === '7@100', 1e9);
  t.is(temporal.shape(() => task, { start: 1, value: 8 }, 3).value, 3);
  temporal.keepTasks(() => false, 1e9);
  t.is(temporal.shape(() => task, { start: 1, value: 8 }, 3).value, 8);
  t.is(temporal.shape(() => instance, { start: 1, value: 8 }, 3).value, 3);
  temporal.shape(() => task, { start: 1, value: 8 }, 3);
  temporal.deliver(temporal.take());
  temporal.forget('host/a\n');
  t.is(temporal.shape(() => task, { start: 1, value: 9 }, 4).value, 1);
  t.is(temporal.shape(() => instance, { start: 1, value: 8 }, 3).value, 8);
});
