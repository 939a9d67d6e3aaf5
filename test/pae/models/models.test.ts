import { createHash } from 'node:crypto';
import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { ModelError } from '../../../src/contract/errors.ts';
import {
  defaultModelFolder,
  type Forecaster,
  startForecaster,
} from '../../../src/pae/models/forecaster.ts';
import { loadModel } from '../../../src/pae/models/load-model.ts';
import type { Manifest } from '../../../src/pae/models/manifest.ts';
import { realTime } from '../../support/sockets.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const shipped = defaultModelFolder();
const quiet = { clock: realTime, say: () => undefined };

/** A copy of the model that ships, whose manifest is changed. */
function copyOfModel(
  t: ExecutionContext,
  change: (manifest: Manifest) => unknown = manifest => manifest,
): string {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-model-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  copyFileSync(join(shipped, 'model.onnx'), join(folder, 'model.onnx'));
  const manifest = JSON.parse(readFileSync(join(shipped, 'manifest.json'), 'utf8')) as Manifest;
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(change(manifest)));
  return folder;
}

const window = (value: (i: number) => number) =>
  Float32Array.from({ length: 48 }, (_, i) => value(i));

test('the model that ships says who it is, and beats the simple forecasts on held-out data', t => {
  const { manifest, identity } = loadModel(shipped);
  t.is(identity.name, 'fast-quantile');
  t.is(identity.sha256, manifest.sha256);
  const { model, naive, ses, windowQuantiles, coverage } = manifest.accuracy;
  t.true(model.pinball < Math.min(naive.pinball, ses.pinball, windowQuantiles.pinball));
  t.true(Math.abs((coverage['q90'] ?? 0) - 0.9) < 0.02);
});

test('a model whose bytes differ from its manifest is refused, with both sums', t => {
  const wrong = 'f'.repeat(64);
  const folder = copyOfModel(t, manifest => ({ ...manifest, sha256: wrong }));
  const error = t.throws(() => loadModel(folder), { instanceOf: ModelError, code: 'MODEL_HASH' });
  t.is(error?.context['expected'], wrong);
  t.is(error?.context['actual'], loadModel(shipped).manifest.sha256);
});

test('a missing model is refused, and so is a missing manifest', t => {
  const folder = copyOfModel(t);
  rmSync(join(folder, 'model.onnx'));
  t.throws(() => loadModel(folder), { code: 'MODEL_HASH', message: /got none/ });
  rmSync(join(folder, 'manifest.json'));
  t.throws(() => loadModel(folder), { code: 'MODEL_MANIFEST' });
});

test('a manifest with an unknown or a wrong field is refused by its name', t => {
  const extra = copyOfModel(t, manifest => ({ ...manifest, colour: 'red' }));
  t.throws(() => loadModel(extra), { code: 'MODEL_MANIFEST', message: /colour/ });
  const shape = copyOfModel(t, manifest => ({ ...manifest, windowSteps: 64 }));
  t.throws(() => loadModel(shape), {
    code: 'MODEL_MANIFEST',
    message: /window: wanted \[batch, 64\], got \[batch, 48\]/,
  });
});

test('a model whose tensors differ from its manifest is refused, with both', async t => {
  const folder = copyOfModel(t, manifest => ({
    ...manifest,
    horizonSteps: 24,
    outputs: manifest.outputs.map(output =>
      output.role === 'forecast' ? { ...output, shape: ['batch', 24, 3] } : output,
    ),
  }));
  const error = await t.throwsAsync(startForecaster({ folder, ...quiet }), {
    instanceOf: ModelError,
    code: 'MODEL_TENSOR',
  });
  t.regex(String(error?.context['expected']), /forecast float32 \[batch, 24, 3\]/);
  t.regex(String(error?.context['actual']), /forecast float32 \[batch, 12, 3\]/);
});

test('a tensor that has another name in the manifest is refused, with both names', async t => {
  const folder = copyOfModel(t, manifest => ({
    ...manifest,
    inputs: manifest.inputs.map(input =>
      input.role === 'window' ? { ...input, name: 'history' } : input,
    ),
  }));
  const error = await t.throwsAsync(startForecaster({ folder, ...quiet }), {
    instanceOf: ModelError,
    code: 'MODEL_TENSOR',
  });
  t.regex(String(error?.context['expected']), /history float32 \[batch, 48\]/);
  t.regex(String(error?.context['actual']), /window float32 \[batch, 48\]/);
});

test('a model that declares what the manifest says and folds series into one another is refused when it is tried', async t => {
  const onnx = readFileSync(join(shipped, 'model.onnx'));
  const sizes = (...values: number[]) => Buffer.from(BigInt64Array.from(values, BigInt).buffer);
  // In place of [series, 12 steps, 3 quantiles]: two series share a row, and what is cut from it looks as it should.
  const at = onnx.indexOf(sizes(-1, 12, 3));
  t.true(at > 0);
  sizes(-1, 12, 6).copy(onnx, at);
  const sha256 = createHash('sha256').update(onnx).digest('hex');
  const folder = copyOfModel(t, manifest => ({ ...manifest, sha256 }));
  writeFileSync(join(folder, 'model.onnx'), onnx);
  const error = await t.throwsAsync(startForecaster({ folder, ...quiet }), {
    instanceOf: ModelError,
    code: 'MODEL_TENSOR',
  });
  t.is(error?.context['expected'], 'a model that runs on 7 series');
});

test('a file that is no ONNX model is refused, though its sum is right', async t => {
  const sha256 = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08';
  const folder = copyOfModel(t, manifest => ({ ...manifest, sha256 }));
  writeFileSync(join(folder, 'model.onnx'), 'test');
  await t.throwsAsync(startForecaster({ folder, ...quiet }), {
    code: 'MODEL_TENSOR',
    message: /wanted an ONNX model/,
  });
});

test('forecasts are quantiles in order, the same again for the same input, whatever else is in the batch', async t => {
  const forecaster = await startForecaster({ folder: shipped, ...quiet });
  t.teardown(() => forecaster.stop());
  const waves = Array.from({ length: 1203 }, (_, k) =>
    window(i => 1 + Math.sin((i + k) / 5) * 0.5 + k * 0.01),
  );
  const zeros = () => waves.map(() => new Float32Array(forecaster.stateWidth));
  const all = await forecaster.forecast(waves, zeros());
  t.is(all.quantiles.length, waves.length);
  for (const values of all.quantiles)
    for (let h = 0; h < 12; h += 1) {
      const [q50 = 0, q90 = 0, q95 = 0] = values.subarray(h * 3, h * 3 + 3);
      if (!(q50 >= 0 && q50 <= q90 && q90 <= q95)) t.fail(`${q50} ${q90} ${q95}`);
    }
  t.deepEqual(await forecaster.forecast(waves, zeros()), all);
});

test('quantiles ascend and are not below zero on any window and state', async t => {
  const forecaster = await startForecaster({ folder: shipped, ...quiet });
  t.teardown(() => forecaster.stop());
  const values = (max: number, length: number) =>
    fc
      .array(fc.float({ min: 0, max, noNaN: true }), { minLength: length, maxLength: length })
      .map(row => Float32Array.from(row));
  await fc.assert(
    fc.asyncProperty(values(256, 48), values(1, forecaster.stateWidth), async (history, state) => {
      const { quantiles } = await forecaster.forecast([history], [state]);
      const row = quantiles[0] ?? new Float32Array();
      return Array.from({ length: 12 }, (_, h) => row.subarray(h * 3, h * 3 + 3)).every(
        ([q50 = -1, q90 = -1, q95 = -1]) => q50 >= 0 && q50 <= q90 && q90 <= q95,
      );
    }),
    { numRuns: 30, seed: 20261124 },
  );
  t.pass();
});

test('a flat series forecasts flat', async t => {
  const forecaster = await startForecaster({ folder: shipped, ...quiet });
  t.teardown(() => forecaster.stop());
  const cores = [0, 0.02, 1, 30];
  const { quantiles } = await forecaster.forecast(
    cores.map(value => window(() => value)),
    cores.map(() => new Float32Array(forecaster.stateWidth)),
  );
  for (const [i, value] of cores.entries())
    for (const quantile of quantiles[i] ?? [])
      t.true(Math.abs(quantile - value) <= 0.02 * value + 0.002, `${quantile} for ${value}`);
});

test('a series that is not finite spoils its own forecast only', async t => {
  const forecaster = await startForecaster({ folder: shipped, ...quiet });
  t.teardown(() => forecaster.stop());
  const fresh = () => new Float32Array(forecaster.stateWidth);
  const calm = window(i => 1 + 0.1 * Math.sin(i));
  const alone = await forecaster.forecast([calm], [fresh()]);
  const spoilt = window(i => (i === 40 ? Number.NaN : 1));
  const both = await forecaster.forecast([spoilt, calm], [fresh(), fresh()]);
  t.true(both.quantiles[0]?.every(Number.isNaN));
  both.quantiles[1]?.forEach((value, i) => {
    t.true(Math.abs(value - (alone.quantiles[0]?.[i] ?? 0)) < 1e-5);
  });
  // Its state lets it recover once the window is whole again.
  const [state = fresh()] = both.states;
  const later = await forecaster.forecast([calm], [state]);
  t.true(later.quantiles[0]?.every(Number.isFinite));
});

test('a window or a state of another size is refused, with both sizes', async t => {
  const forecaster = await startForecaster({ folder: shipped, ...quiet });
  t.teardown(() => forecaster.stop());
  const whole = window(() => 1);
  const fresh = new Float32Array(forecaster.stateWidth);
  const refused = { instanceOf: ModelError, code: 'MODEL_RUN' };
  const short = await t.throwsAsync(forecaster.forecast([whole.subarray(1)], [fresh]), refused);
  t.regex(short?.message ?? '', /window: wanted 1 × 48 values, got 1 × 47/);
  const missing = await t.throwsAsync(forecaster.forecast([whole, whole], [fresh]), refused);
  t.regex(missing?.message ?? '', /state: wanted 2 × 5 values, got 1 × 5/);
});

test('a series ten times as large has a forecast ten times as large', async t => {
  const forecaster = await startForecaster({ folder: shipped, ...quiet });
  t.teardown(() => forecaster.stop());
  const shape = (i: number) => 2 + Math.sin(i / 4);
  const { quantiles } = await forecaster.forecast(
    [window(shape), window(i => 10 * shape(i))],
    [0, 1].map(() => new Float32Array(forecaster.stateWidth)),
  );
  const [small, large] = quantiles;
  large?.forEach((value, i) => {
    t.true(Math.abs(value / (10 * (small?.[i] ?? 0)) - 1) < 0.01);
  });
});

test('quantiles that turn out too low rise by the state that goes in and out', async t => {
  const forecaster = await startForecaster({ folder: shipped, ...quiet });
  t.teardown(() => forecaster.stop());
  const calm = window(i => 1 + 0.01 * Math.sin(i));
  const tooLow = Float32Array.of(1, 0.5, 0.6, 0, 0);
  const fresh = new Float32Array(forecaster.stateWidth);
  const { quantiles, states } = await forecaster.forecast([calm, calm], [fresh, tooLow]);
  t.true((quantiles[1]?.[1] ?? 0) > (quantiles[0]?.[1] ?? 0));
  t.true((states[1]?.[3] ?? 0) > 0);
});

// Serial: it counts the threads of this process.
test.serial(
  'a forecaster that is stopped leaves no thread, and starts none when asked again',
  async t => {
    const threads = () => readdirSync('/proc/self/task').length;
    const ask = (forecaster: Forecaster) =>
      forecaster.forecast([window(() => 1)], [new Float32Array(forecaster.stateWidth)]);
    const counts: number[] = [];
    // The first one starts threads of the process itself, which stay.
    for (let i = 0; i < 3; i += 1) {
      const forecaster = await startForecaster({ folder: shipped, ...quiet });
      await ask(forecaster);
      await forecaster.stop();
      await t.throwsAsync(ask(forecaster), { code: 'MODEL_RUN', message: /was stopped/ });
      t.is(forecaster.counters().modelRestarts, 0);
      counts.push(threads());
    }
    t.is(counts[2], counts[0]);
  },
);

test('who asks while the thread is started again waits for the same one, and a stop ends it', async t => {
  const forecaster = await startForecaster({
    folder: shipped,
    ...quiet,
    workerUrl: new URL('./dying-worker.ts', import.meta.url),
  });
  const ask = () =>
    forecaster.forecast([window(() => 1)], [new Float32Array(forecaster.stateWidth)]);
  await t.throwsAsync(ask(), { code: 'MODEL_RUN' });
  const asked = Promise.allSettled([ask(), ask()]);
  await forecaster.stop();
  for (const { status } of await asked) t.is(status, 'rejected');
  t.is(forecaster.counters().modelRestarts, 1);
});

test('a thread that does not open its model in time is ended', async t => {
  const clock = steppedClock();
  const starting = startForecaster({
    folder: shipped,
    clock,
    say: () => undefined,
    workerUrl: new URL('./hanging-worker.ts', import.meta.url),
  });
  clock.step(60);
  await t.throwsAsync(starting, { code: 'MODEL_RUN', message: /not open after 60 s/ });
});

test('a thread that dies answers with an error, is started again, and in the end left alone', async t => {
  const said: string[] = [];
  const forecaster = await startForecaster({
    folder: shipped,
    clock: realTime,
    say: (_, message) => said.push(message),
    workerUrl: new URL('./dying-worker.ts', import.meta.url),
  });
  t.teardown(() => forecaster.stop());
  const ask = () =>
    forecaster.forecast([window(() => 1)], [new Float32Array(forecaster.stateWidth)]);
  for (let i = 0; i < 6; i += 1)
    await t.throwsAsync(ask(), { code: 'MODEL_RUN', message: /ended with 3/ });
  await t.throwsAsync(ask(), { code: 'MODEL_RUN', message: /died 6 times/ });
  t.is(forecaster.counters().modelRestarts, 5);
  t.is(said.length, 5);
});
