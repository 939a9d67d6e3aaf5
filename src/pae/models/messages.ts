import type { Manifest } from './manifest.ts';

/** What the thread is started with. */
export type WorkerStart = { readonly manifest: Manifest; readonly bytes: Uint8Array };

/** Row-major: `windows` [count, windowSteps], `states` [count, n]. */
export type WorkerRequest = {
  readonly id: number;
  readonly count: number;
  readonly windows: Float32Array;
  readonly states: Float32Array;
};

export type WorkerReply =
  | { readonly kind: 'ready' }
  /** The model cannot be used; the thread ends. */
  | {
      readonly kind: 'unusable';
      readonly code: 'MODEL_TENSOR';
      readonly message: string;
      readonly expected: string;
      readonly actual: string;
    }
  | {
      readonly kind: 'forecast';
      readonly id: number;
      readonly quantiles: Float32Array;
      readonly states: Float32Array;
    }
  | { readonly kind: 'failed'; readonly id: number; readonly message: string };
