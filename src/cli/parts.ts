import type { KeyObject } from 'node:crypto';
import type { ConnectedAgent } from '../agent/connected-agent.ts';
import { createSayLimit } from '../agent/say-limit.ts';
import type { ApiRoute } from '../api/server.ts';
import { startApi } from '../api/server.ts';
import type { Config } from '../contract/config.ts';
import { ConfigError, describeError } from '../contract/errors.ts';
import type { Running, Say } from '../contract/ports.ts';
import { readHostId } from '../linux/host-id.ts';
import { hostRoots } from '../linux/roots.ts';
import { explainPreference } from '../otlp/temporality.ts';
import { listenUnix } from '../otlp/unix-socket.ts';
import { uidsOf } from '../otlp/users.ts';
import { type Addon, type FrugalPart, loadAddon, loadAddonFor, type MaybeAddon } from './addon.ts';
import { realClock } from './clock.ts';
import { type ConfigSource, followConfig } from './follow-config.ts';
import { agentRoutes, engineRoutes, pipelineRoutes, sculptorRoutes } from './routes.ts';
import { hasTerminal } from './run-until.ts';

/* Each part is loaded when it is started: a daemon holds no other in memory. */

/** What a part begins with. */
export type PartOptions = {
  readonly config: Config;
  readonly say: Say;
  /** Where the configuration came from; absent: it is not followed. */
  readonly source?: ConfigSource;
};

/** What every part is given. */
export type PartContext = PartOptions & Addon & { readonly hostId: string };

/** What one is given that may have to do without the addon. */
export type FrugalContext = PartOptions & MaybeAddon & { readonly hostId: string };

/** @throws KernelInterfaceError NATIVE_MISSING */
export function createContext(options: PartOptions): PartContext {
  return contextOf(options, loadAddon());
}

/** @throws KernelInterfaceError NATIVE_MISSING where the part as configured needs the addon */
export function createFrugalContext(part: FrugalPart, options: PartOptions): FrugalContext {
  const say = (text: string) => options.say('warn', `${part}: ${text}`);
  return contextOf(options, loadAddonFor(part, options.config, say));
}

/** How long Node may take to end: it waits for its threads, and one of them perhaps for a name server, or for the mmap lock of a process. */
const endMs = 1000;

function contextOf<Of extends MaybeAddon>(options: PartOptions, addon: Of) {
  warnOfEnvironment(options.say);
  if (addon.peerUid !== null) process.once('exit', code => addon.native.endWithin(endMs, code));
  return { ...options, ...addon, hostId: readHostId(hostRoots) };
}

/** Once for a process, however many parts of it tell metrics. */
function warnOfEnvironment(say: Say): void {
  const wrong = explainPreference();
  if (wrong !== null) say('warn', wrong);
}

/** Most of what Node maps of its files is used when it starts, and seldom later. */
const dropSeconds = 60;

/** The agent with its gate, its API, and its file of profiles; it follows the configuration file. */
export async function runAgent(context: FrugalContext, profileTo?: string): Promise<Running> {
  const { startConnectedAgent } = await import('../agent/connected-agent.ts');
  const { openProfileSink } = await import('../agent/profiles/profile-sink.ts');
  const { config, native, hostId, say, source } = context;
  const profileSink =
    profileTo === undefined ? undefined : openProfileSink(profileTo, realClock, say);
  const start = () =>
    startConnectedAgent({
      config: config.agent,
      native,
      roots: hostRoots,
      hostId,
      clock: realClock,
      say,
      ...(profileSink ? { profileSink } : {}),
    });
  const agent = await withApi(context, config.agent.apiSocket, start, agentRoutes);
  const keepLarge = realClock.every(dropSeconds, () => {
    try {
      native.dropFilePages();
    } catch (error) {
      keepLarge();
      say('warn', `agent: it keeps more memory than it needs: ${describeError(error)}`);
    }
  });
  const apply = (loaded: Config) => reloadAgent(config, loaded, agent, say);
  const atHangup = !hasTerminal();
  const following = source && followConfig({ source, apply, atHangup, clock: realClock, say });
  return {
    stop: async () => {
      keepLarge();
      await following?.stop();
      await agent.stop();
      await profileSink?.stop();
    },
  };
}

/** @throws ConfigError, and everything stays */
function reloadAgent(
  running: Config,
  loaded: Config,
  agent: Pick<ConnectedAgent, 'reload'>,
  say: Say,
): void {
  const differs = (section: keyof Config) =>
    JSON.stringify(running[section]) !== JSON.stringify(loaded[section]);
  const fixed = (['nice', 'sockets'] as const).filter(differs);
  if (fixed.length > 0)
    throw new ConfigError(
      'CONFIG_REFUSED',
      `${fixed.join(', ')} cannot change while the agent runs: the old value holds until it is started again`,
    );
  agent.reload(loaded.agent);
  const others = (['pipeline', 'engine', 'sculptor'] as const).filter(differs);
  if (others.length > 0)
    say(
      'info',
      `agent: what has changed of ${others.join(', ')} holds when they are started again`,
    );
}

/** The engine, signing with this key, and its API. */
export async function runEngine(context: FrugalContext, privateKey: KeyObject): Promise<Running> {
  const { startEngine } = await import('../pae/engine.ts');
  const { config, say, peerUid } = context;
  const { model } = config.engine;
  const start = () =>
    startEngine({
      config: config.engine,
      sockets: config.sockets,
      peerUid,
      privateKey,
      clock: realClock,
      say,
      ...(model === undefined ? {} : { model }),
    });
  return withApi(context, config.engine.apiSocket, start, engineRoutes);
}

/** The sculptor, trusting these keys only, and its API. */
export async function runSculptor(
  context: PartContext,
  trustedKeys: readonly KeyObject[],
): Promise<Running> {
  const { startSculptor } = await import('../sculptor/sculptor.ts');
  const { config, native, peerUid, hostId, say } = context;
  const start = () =>
    startSculptor({
      config: config.sculptor,
      sockets: config.sockets,
      hostId,
      native,
      roots: hostRoots,
      peerUid,
      trustedKeys,
      clock: realClock,
      say,
    });
  return withApi(context, config.sculptor.apiSocket, start, sculptorRoutes);
}

/** The embedded pipeline and its API. */
export async function runPipeline(context: PartContext): Promise<Running> {
  const { startPipeline } = await import('../pipeline/pipeline.ts');
  const { config, say, peerUid } = context;
  const start = () =>
    startPipeline({
      config: config.pipeline,
      sockets: config.sockets,
      peerUid,
      clock: realClock,
      say,
    });
  return withApi(context, config.pipeline.apiSocket, start, pipelineRoutes);
}

/**
 * The API is there first: a second part of the same configuration is refused before it has asked the kernel or told anybody anything.
 * Who asks while the part is starting is answered when it runs. It stops first as well: nobody asks a part that is stopping.
 */
async function withApi<Part extends Running>(
  { config, peerUid, say }: FrugalContext,
  socket: string,
  start: () => Promise<Part>,
  routesOf: (part: Part) => readonly ApiRoute[],
): Promise<Part> {
  const warn = createSayLimit(realClock, say);
  const routes = Promise.withResolvers<readonly ApiRoute[]>();
  const api = await startApi({
    socket,
    allowUids: uidsOf(config.sockets.allowUsers),
    peerUid,
    listen: listenUnix,
    routes: routes.promise,
    refused: why =>
      warn(
        `${socket}: a connection was refused: ${why === 'peer' ? 'its user is not among sockets.allowUsers' : why}`,
      ),
  });
  try {
    const part = await start();
    routes.resolve(routesOf(part));
    return {
      ...part,
      stop: async () => {
        await api.stop();
        await part.stop();
      },
    };
  } catch (error) {
    await api.stop();
    throw error;
  }
}
