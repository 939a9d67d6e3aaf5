import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ModelError } from '../../contract/errors.ts';
import type { Clock, Running, Say } from '../../contract/ports.ts';
import type { ModelIdentity } from '../../contract/recommendation.ts';
import { loadModel } from './load-model.ts';
import type { Manifest } from './manifest.ts';
import { startThread, type Thread } from './thread.ts';

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
   * A window or a state that is not finite makes that series' forecast NaN, and no other's.
   * @throws ModelError MODEL_RUN when a window or a state has another size, the thread died or is overdue, too many
   * requests wait, or the forecaster was stopped
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
  let thread = await startThread(model, url, options);
  let restarting: Promise<Thread> | null = null;
  let restarts = 0;
  let stopped = false;

  const restart = async (): Promise<Thread> => {
    if (restarts >= maxRestarts)
      throw new ModelError('MODEL_RUN', `the model's thread died ${restarts + 1} times`);
    restarts += 1;
    options.say('warn', `engine: the model's thread died, restart ${restarts} of ${maxRestarts}`);
    thread = await startThread(model, url, options);
    return thread;
  };

  const running = async (): Promise<Thread> => {
    if (!thread.dead()) return thread;
    // Whoever asks meanwhile waits for the same thread: a second one would never be stopped.
    restarting ??= restart().finally(() => {
      restarting = null;
    });
    return restarting;
  };

  return {
    identity,
    manifest,
    stateWidth,
    forecast: async (windows, states) => {
      if (stopped) throw new ModelError('MODEL_RUN', 'the forecaster was stopped');
      const count = windows.length;
      const joinedWindows = join('window', windows, count, manifest.windowSteps);
      const joinedStates = join('state', states, count, stateWidth);
      const answer = await (await running()).ask(joinedWindows, joinedStates, count);
      return {
        quantiles: cut(answer.quantiles, manifest.horizonSteps * manifest.quantiles.length),
        states: cut(answer.states, stateWidth),
      };
    },
    counters: () => ({ modelRestarts: restarts }),
    stop: async () => {
      stopped = true;
      // A thread that is being started would outlive this otherwise.
      await Promise.allSettled([restarting]);
      await thread.stop();
    },
  };
}

/** Rows in one array; a size that is not the model's would shift every series after it. */
function join(
  what: string,
  rows: readonly Float32Array[],
  count: number,
  width: number,
): Float32Array {
  const expected = `${count} × ${width}`;
  const wrong = rows.find(row => row.length !== width);
  if (rows.length !== count || wrong) {
    const actual = `${rows.length} × ${wrong?.length ?? width}`;
    throw new ModelError('MODEL_RUN', `${what}: wanted ${expected} values, got ${actual}`, {
      expected,
      actual,
    });
  }
  const joined = new Float32Array(count * width);
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
