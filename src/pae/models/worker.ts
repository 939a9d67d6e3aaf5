/** The thread that runs a model: `session.run` blocks, and onnxruntime's 30 MB belong to nobody else. */
import { parentPort, workerData } from 'node:worker_threads';
import * as ort from 'onnxruntime-node';
import type { TensorSpec } from './manifest.ts';
import type { WorkerReply, WorkerRequest, WorkerStart } from './messages.ts';
import { type MetTensor, type Mismatch, tensorMismatch } from './tensors.ts';

/** Series in one run: the arena keeps the memory of the largest. */
const batchSeries = 1000;

/** A prime that is no other size: a model that folds two series into one fails on it, where two would pass by broadcasting. */
const triedSeries = 7;

const { manifest, bytes } = workerData as WorkerStart;
const reply = (message: WorkerReply, transfer: ArrayBuffer[] = []) =>
  parentPort?.postMessage(message, transfer);

const session = await open();
if (session) {
  parentPort?.on('message', (request: WorkerRequest) => void answer(session, request));
  reply({ kind: 'ready' });
}

async function open(): Promise<ort.InferenceSession | null> {
  let opened: ort.InferenceSession;
  try {
    // One thread is the fastest for a model of this size, and leaves the others to whom they belong.
    opened = await ort.InferenceSession.create(bytes, {
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      // Fatal ones only: every other failure is thrown, and told by who asked.
      logSeverityLevel: 4,
    });
  } catch (error) {
    unusable(`an ONNX model of opset ${manifest.opset}`, messageOf(error));
    return null;
  }
  const mismatch =
    tensorMismatch(manifest, {
      inputs: opened.inputMetadata.map(met),
      outputs: opened.outputMetadata.map(met),
    }) ?? (await tried(opened));
  if (!mismatch) return opened;
  unusable(mismatch.expected, mismatch.actual);
  return null;
}

function unusable(expected: string, actual: string): void {
  const message = `wanted ${expected}, got ${actual}`;
  reply({ kind: 'unusable', code: 'MODEL_TENSOR', message, expected, actual });
}

/** Forecasts a few series that are asleep: the sizes that a model declares do not say that it keeps its series apart. */
async function tried(model: ort.InferenceSession): Promise<Mismatch | null> {
  const series = triedSeries;
  const feeds = Object.fromEntries(
    manifest.inputs.map(spec => {
      const width = widthOf(spec);
      return [
        spec.name,
        new ort.Tensor('float32', new Float32Array(series * width), [series, width]),
      ];
    }),
  );
  try {
    const results = await model.run(feeds);
    for (const { name, shape } of manifest.outputs) {
      const expected = `${name} [${[series, ...shape.slice(1)].join(', ')}] of ${series} series`;
      const actual = `${name} [${results[name]?.dims.join(', ') ?? ''}] of ${series} series`;
      if (expected !== actual) return { expected, actual };
    }
  } catch (error) {
    return { expected: `a model that runs on ${series} series`, actual: messageOf(error) };
  }
  return null;
}

function met(metadata: ort.InferenceSession.ValueMetadata): MetTensor {
  return metadata.isTensor
    ? { name: metadata.name, type: metadata.type, shape: metadata.shape }
    : { name: metadata.name, type: 'no tensor', shape: [] };
}

async function answer(model: ort.InferenceSession, request: WorkerRequest): Promise<void> {
  try {
    const quantiles = new Float32Array(request.count * widthOf(outputOf('forecast')));
    const states = new Float32Array(request.count * widthOf(outputOf('state')));
    for (let from = 0; from < request.count; from += batchSeries)
      await runBatch(model, request, from, { quantiles, states });
    reply({ kind: 'forecast', id: request.id, quantiles, states }, [
      quantiles.buffer,
      states.buffer,
    ]);
  } catch (error) {
    reply({ kind: 'failed', id: request.id, message: messageOf(error) });
  }
}

async function runBatch(
  model: ort.InferenceSession,
  request: WorkerRequest,
  from: number,
  into: { quantiles: Float32Array; states: Float32Array },
): Promise<void> {
  const to = Math.min(request.count, from + batchSeries);
  const feeds: Record<string, ort.Tensor> = {};
  for (const spec of manifest.inputs) {
    const values = spec.role === 'window' ? request.windows : request.states;
    const width = widthOf(spec);
    feeds[spec.name] = new ort.Tensor('float32', values.slice(from * width, to * width), [
      to - from,
      width,
    ]);
  }
  const results = await model.run(feeds);
  for (const spec of manifest.outputs) {
    const values = results[spec.name]?.data;
    if (!(values instanceof Float32Array)) throw new TypeError(`${spec.name}: wanted float32`);
    const target = spec.role === 'forecast' ? into.quantiles : into.states;
    target.set(values, from * widthOf(spec));
  }
}

function outputOf(role: TensorSpec['role']): TensorSpec {
  const spec = manifest.outputs.find(output => output.role === role);
  if (!spec) throw new TypeError(`the manifest has no output ${role}`);
  return spec;
}

/** Values of one series. */
function widthOf({ shape }: TensorSpec): number {
  return shape.slice(1).reduce<number>((product, size) => product * Number(size), 1);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
