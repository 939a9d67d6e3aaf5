import { setPriority } from 'node:os';

/** As high as a service needs to be served beside busy neighbours, and below what real-time work uses. */
const controlLoopNice = -10;

/**
 * The loop that ends contention must get a CPU while there is contention. It uses a few hundredths of a core, so the others
 * lose nothing by it. Threads that are started later inherit it. Without the privilege it stays as it is.
 */
export function raisePriority(): void {
  if (process.getuid?.() === 0) setPriority(controlLoopNice);
}
