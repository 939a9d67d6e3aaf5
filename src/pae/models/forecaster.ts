import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { ModelError } from '../../contract/errors.ts';
import type { Cancel, Clock, Running, Say } from '../../contract/ports.ts';
import type { ModelIdentity } from '../../contract/recommendation.ts';
import { loadModel, type Model } from './load-model.ts';
import type { Manifest } from './manifest.ts';
import type { WorkerReply, WorkerRequest, WorkerStart } from './messages.ts';

/** Per series: `quantiles` [horizonSteps, quantiles] cores, row-major; `states` what to hand in with the next window. */
export type Forecasts = {
  readonly quantiles: Float32Array[];
  readonly states: Float32Array[];
};

export type Forecaster = Running & {
  readonly identity: ModelIdentity;
  readonly manifest: Manifest;
  /** Values of the state of one series. */
  readonly stateWidth: number;
  /**
   * Forecasts series, each from a whole window in cores, oldest first, and the state it answered last (zeros at first).
   * @throws ModelError MODEL_RUN when the thread died, is overdue, or too many requests wait
   */
  readonly forecast: (
    windows: readonly Float32Array[],
    states: readonly Float32Array[],
  ) => Promise<Forecasts>;
  readonly counters: () => { readonly modelRestarts: number };
};

export type ForecasterOptions = {
  readonly folder: string;
  readonly clock: Clock;
  readonly say: Say;
  /** In place of the thread that runs the model. */
  readonly workerUrl?: URL;
};

/** Requests under way; the engine asks once a second and waits for the answer. */
const maxRequests = 4;
/** 20,000 series take less than a second; a thread that is silent this long hangs. */
const overdueSeconds = 10;
/** A model that kills its thread this often is left alone: simple forecasts hold. */
const maxRestarts = 5;

/** The model that ships, from src/ and dist/ alike. */
export function defaultModelFolder(): string {
  return fileURLToPath(new URL('../../../models/fast-quantile/', import.meta.url));
}

/**
 * Runs a model in a thread of its own.
 * @throws ModelError MODEL_MANIFEST, MODEL_HASH, MODEL_TENSOR with what was expected and what was met
 */
export async function startForecaster(options: ForecasterOptions): Promise<Forecaster> {
  const model = loadModel(options.folder);
  const { manifest, identity } = model;
  const url = options.workerUrl ?? new URL(`./worker${extname(import.meta.url)}`, import.meta.url);
  const stateWidth = Number(manifest.inputs.find(({ role }) => role === 'state')?.shape[1] ?? 0);
  let thread: Thread | null = await startThread(model, url, options);
  let restarts = 0;

  const running = async (): Promise<Thread> => {
    if (thread && !thread.dead()) return thread;
    if (restarts >= maxRestarts)
      throw new ModelError('MODEL_RUN', `the model's thread died ${restarts + 1} times`);
    restarts += 1;
    options.say('warn', `engine: the model's thread died, restart ${restarts} of ${maxRestarts}`);
    thread = await startThread(model, url, options);
    return thread;
  };

  return {
    identity,
    manifest,
    stateWidth,
    forecast: async (windows, states) => {
      const answer = await (await running()).ask(
        join(windows, manifest.windowSteps),
        join(states, stateWidth),
        windows.length,
      );
      return {
        quantiles: cut(answer.quantiles, manifest.horizonSteps * manifest.quantiles.length),
        states: cut(answer.states, stateWidth),
      };
    },
    counters: () => ({ modelRestarts: restarts }),
    stop: async () => thread?.stop(),
  };
}

type Answer = { readonly quantiles: Float32Array; readonly states: Float32Array };
type Waiting = {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: ModelError) => void;
  readonly cancel: Cancel;
};

type Thread = {
  readonly dead: () => boolean;
  readonly ask: (windows: Float32Array, states: Float32Array, count: number) => Promise<Answer>;
  readonly stop: () => Promise<void>;
};

/** Resolves when the model is open in it. */
function startThread(
  { manifest, bytes }: Model,
  url: URL,
  { clock, folder }: ForecasterOptions,
): Promise<Thread> {
  const worker = new Worker(url, { workerData: { manifest, bytes } satisfies WorkerStart });
  const waiting = new Map<number, Waiting>();
  let ids = 0;
  let dead = false;

  const die = (why: string): void => {
    dead = true;
    for (const { reject, cancel } of waiting.values()) {
      cancel();
      reject(new ModelError('MODEL_RUN', why));
    }
    waiting.clear();
  };

  const ask: Thread['ask'] = (windows, states, count) =>
    new Promise((resolve, reject) => {
      if (waiting.size >= maxRequests) {
        reject(new ModelError('MODEL_RUN', `${waiting.size} requests wait for the model already`));
        return;
      }
      ids += 1;
      const cancel = clock.after(overdueSeconds, () => {
        die(`the model has not answered for ${overdueSeconds} s`);
        void worker.terminate();
      });
      waiting.set(ids, { resolve, reject, cancel });
      worker.postMessage({ id: ids, count, windows, states } satisfies WorkerRequest, [
        windows.buffer as ArrayBuffer,
        states.buffer as ArrayBuffer,
      ]);
    });

  const settle = (reply: Extract<WorkerReply, { id: number }>): void => {
    const request = waiting.get(reply.id);
    waiting.delete(reply.id);
    request?.cancel();
    if (reply.kind === 'forecast') request?.resolve(reply);
    else request?.reject(new ModelError('MODEL_RUN', reply.message));
  };

  return new Promise((resolve, reject) => {
    worker.on('message', (reply: WorkerReply) => {
      if (reply.kind === 'ready') {
        resolve({
          dead: () => dead,
          ask,
          stop: async () => {
            die('the engine stops');
            await worker.terminate();
          },
        });
      } else if (reply.kind === 'unusable') {
        const { code, message, expected, actual } = reply;
        reject(new ModelError(code, `${folder}: ${message}`, { expected, actual }));
        void worker.terminate();
      } else settle(reply);
    });
    const ended = (why: string) => {
      die(why);
      reject(new ModelError('MODEL_RUN', `${folder}: ${why}`));
    };
    worker.on('error', error => ended(`the model's thread died: ${messageOf(error)}`));
    worker.on('exit', code => ended(`the model's thread ended with ${code}`));
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function join(rows: readonly Float32Array[], width: number): Float32Array {
  const joined = new Float32Array(rows.length * width);
  rows.forEach((row, i) => {
    joined.set(row, i * width);
  });
  return joined;
}

function cut(joined: Float32Array, width: number): Float32Array[] {
  return Array.from({ length: joined.length / width }, (_, i) =>
    joined.slice(i * width, (i + 1) * width),
  );
}
