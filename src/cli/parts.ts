import type { KeyObject } from 'node:crypto';
import { startConnectedAgent } from '../agent/connected-agent.ts';
import type { ApiRoute } from '../api/server.ts';
import { startApi } from '../api/server.ts';
import type { Config } from '../contract/config.ts';
import type { Running, Say } from '../contract/ports.ts';
import { readHostId } from '../linux/host-id.ts';
import { loadNative, type Native } from '../linux/native.ts';
import { hostRoots } from '../linux/roots.ts';
import { listenUnix } from '../otlp/unix-socket.ts';
import { uidsOf } from '../otlp/users.ts';
import { startEngine } from '../pae/engine.ts';
import { startPipeline } from '../pipeline/pipeline.ts';
import { startSculptor } from '../sculptor/sculptor.ts';
import { realClock } from './clock.ts';
import { agentRoutes, engineRoutes, pipelineRoutes, sculptorRoutes } from './routes.ts';

/** What every part is given. */
export type PartContext = {
  readonly config: Config;
  readonly native: Native;
  readonly hostId: string;
  readonly say: Say;
};

/** @throws KernelInterfaceError NATIVE_MISSING */
export function createContext(config: Config, say: Say): PartContext {
  return { config, native: loadNative(), hostId: readHostId(hostRoots), say };
}

/** The agent with its gate, and its API. */
export async function runAgent(context: PartContext): Promise<Running> {
  const { config, native, hostId, say } = context;
  const agent = await startConnectedAgent({
    config: config.agent,
    native,
    roots: hostRoots,
    hostId,
    clock: realClock,
    say,
  });
  return withApi(context, config.agent.apiSocket, agent, agentRoutes(agent));
}

/** The engine, signing with this key, and its API. */
export async function runEngine(context: PartContext, privateKey: KeyObject): Promise<Running> {
  const { config, say } = context;
  const { model } = config.engine;
  const engine = await startEngine({
    config: config.engine,
    sockets: config.sockets,
    peerUid: peerUidOf(context),
    privateKey,
    clock: realClock,
    say,
    ...(model === undefined ? {} : { model }),
  });
  return withApi(context, config.engine.apiSocket, engine, engineRoutes(engine));
}

/** The sculptor, trusting these keys only, and its API. */
export async function runSculptor(
  context: PartContext,
  trustedKeys: readonly KeyObject[],
): Promise<Running> {
  const { config, native, hostId, say } = context;
  const sculptor = await startSculptor({
    config: config.sculptor,
    sockets: config.sockets,
    hostId,
    native,
    roots: hostRoots,
    peerUid: peerUidOf(context),
    trustedKeys,
    clock: realClock,
    say,
  });
  return withApi(context, config.sculptor.apiSocket, sculptor, sculptorRoutes(sculptor));
}

/** The embedded pipeline and its API. */
export async function runPipeline(context: PartContext): Promise<Running> {
  const { config, say } = context;
  const pipeline = await startPipeline({
    config: config.pipeline,
    sockets: config.sockets,
    peerUid: peerUidOf(context),
    clock: realClock,
    say,
  });
  return withApi(context, config.pipeline.apiSocket, pipeline, pipelineRoutes(pipeline));
}

function peerUidOf({ native }: PartContext): (fd: number) => number {
  return fd => native.peerCredentials(fd).uid;
}

/** Stops the API first: nobody asks a part that is stopping. A part whose API cannot start is stopped again. */
async function withApi(
  context: PartContext,
  socket: string,
  part: Running,
  routes: readonly ApiRoute[],
): Promise<Running> {
  try {
    const api = await startApi({
      socket,
      allowUids: uidsOf(context.config.sockets.allowUsers),
      peerUid: peerUidOf(context),
      listen: listenUnix,
      routes,
    });
    return {
      stop: async () => {
        await api.stop();
        await part.stop();
      },
    };
  } catch (error) {
    await part.stop();
    throw error;
  }
}
