import { Worker } from 'node:worker_threads';
import { ModelError } from '../../contract/errors.ts';
import type { Cancel, Clock } from '../../contract/ports.ts';
import type { Model } from './load-model.ts';
import type { WorkerReply, WorkerRequest, WorkerStart } from './messages.ts';

/** Requests under way; the engine asks once a second and waits for the answer. */
const maxRequests = 4;
/** 20,000 series take less than a second; a thread that is silent this long hangs. */
const overdueSeconds = 10;

/** A model is open within a second; on a host that starves everybody it takes longer. */
const openSeconds = 60;

/** Row-major: `quantiles` [series, horizonSteps, quantiles] cores, `states` [series, n]. */
export type Answer = { readonly quantiles: Float32Array; readonly states: Float32Array };

/** A thread with the model open in it; once dead it stays so. */
export type Thread = {
  readonly dead: () => boolean;
  readonly ask: (windows: Float32Array, states: Float32Array, count: number) => Promise<Answer>;
  readonly stop: () => Promise<void>;
};

type Waiting = {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: ModelError) => void;
  readonly cancel: Cancel;
};

/**
 * Resolves when the model is open in a new thread and has been tried there.
 * @throws ModelError MODEL_TENSOR, MODEL_RUN
 */
export function startThread(
  { manifest, bytes }: Model,
  url: URL,
  { clock, folder }: { readonly clock: Clock; readonly folder: string },
): Promise<Thread> {
  // Else ONNX Runtime (from 1.29 on) makes an id of this machine in the user's home and sends its makers what models it runs. Set here:
  // in a worker the environment is a copy, which native code does not see.
  process.env['ORT_DISABLE_TELEMETRY'] = '1';
  const worker = new Worker(url, { workerData: { manifest, bytes } satisfies WorkerStart });
  const waiting = new Map<number, Waiting>();
  let ids = 0;
  let deadOf: string | null = null;

  const die = (why: string): void => {
    deadOf ??= why;
    for (const { reject, cancel } of waiting.values()) {
      cancel();
      reject(new ModelError('MODEL_RUN', why));
    }
    waiting.clear();
  };

  const ask: Thread['ask'] = (windows, states, count) =>
    new Promise((resolve, reject) => {
      // It may have died since it was looked at; nothing would ever answer.
      if (deadOf !== null) {
        reject(new ModelError('MODEL_RUN', deadOf));
        return;
      }
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
    const ended = (why: string): void => {
      cancelOverdue();
      die(why);
      reject(new ModelError('MODEL_RUN', `${folder}: ${why}`));
    };
    const cancelOverdue = clock.after(openSeconds, () => {
      ended(`the model was not open after ${openSeconds} s`);
      void worker.terminate();
    });
    worker.on('message', (reply: WorkerReply) => {
      if (reply.kind === 'ready') {
        cancelOverdue();
        resolve({
          dead: () => deadOf !== null,
          ask,
          stop: async () => {
            die('the engine stops');
            await worker.terminate();
          },
        });
      } else if (reply.kind === 'unusable') {
        const { code, message, expected, actual } = reply;
        cancelOverdue();
        reject(new ModelError(code, `${folder}: ${message}`, { expected, actual }));
        void worker.terminate();
      } else settle(reply);
    });
    worker.on('error', error => ended(`the model's thread died: ${messageOf(error)}`));
    worker.on('exit', code => ended(`the model's thread ended with ${code}`));
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
