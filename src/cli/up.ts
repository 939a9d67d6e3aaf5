import type { Running } from '../contract/ports.ts';
import { generateKeys } from '../otlp/signing.ts';
import { type PartContext, runAgent, runEngine, runPipeline, runSculptor } from './parts.ts';
import { type Started, stopAll } from './run-until.ts';

/**
 * All parts in this process, speaking OTLP over their sockets, with a key pair that lives in memory only. Stopping gives
 * everything back first: the sculptor stops while the others still carry what it says.
 * @throws what a part throws that cannot start; those started before are stopped again
 */
export async function startUp(context: PartContext): Promise<Running> {
  const { privateKey, publicKey } = generateKeys();
  const started: Started[] = [];
  const stop = () => stopAll(started, context.say);
  const parts = [
    { name: 'pipeline', start: () => runPipeline(context) },
    { name: 'engine', start: () => runEngine(context, privateKey) },
    { name: 'agent', start: () => runAgent(context) },
    { name: 'sculptor', start: () => runSculptor(context, [publicKey]) },
  ];
  try {
    for (const { name, start } of parts) started.unshift({ name, part: await start() });
  } catch (error) {
    await stop();
    throw error;
  }
  return { stop };
}
