import { createServer, type Server, Socket } from 'node:net';
import { ConfigError, describeError } from '../../contract/errors.ts';
import type { GateConfig } from '../../contract/gate-config.ts';
import type { Instance } from '../../contract/instance.ts';
import { plainAddress } from '../../contract/plain-address.ts';
import type { Clock } from '../../contract/ports.ts';
import type { Native } from '../../linux/native.ts';
import type { Roots } from '../../linux/roots.ts';
import { createVsockGuests } from '../../linux/vsock-guests.ts';
import { listenUnix } from '../../otlp/unix-socket.ts';
import { uidsOf } from '../../otlp/users.ts';
import { instanceOf } from './identity.ts';

/** Takes a connection with a way to ask whom the transport says it is of (null: nobody that is known; a text: why it is nobody's for sure); asking may throw. */
export type Admit = (
  connection: Socket,
  whose: () => Instance | string | null,
  via: string,
) => void;

export type GateListener = {
  readonly close: () => Promise<void>;
  /** Connections that were refused below us, since there were too many. */
  readonly tooMany: () => number;
};

/** What becomes of a connection before anybody is asked whose it is. */
export type Refused = (
  reason: 'connection_refused_user' | 'connection_too_many' | 'connection_failed',
) => void;

export type ListenOptions = {
  readonly config: GateConfig;
  readonly native: Native;
  readonly roots: Roots;
  readonly clock: Clock;
  readonly admit: Admit;
  readonly refused: Refused;
};

/**
 * Opens all that the configuration names; when one cannot be, those before it are closed again.
 * @throws ConfigError CONFIG_SOCKET, CONFIG_INVALID (an unknown user)
 */
export async function listenForGuests(options: ListenOptions): Promise<GateListener[]> {
  const { config } = options;
  const open: GateListener[] = [];
  try {
    if (config.vsock) open.push(listenVsock(options, config.vsock));
    for (const [i, one] of config.unix.entries()) open.push(await listenOnUnix(options, one, i));
    if (config.tcp) open.push(await listenTcp(options, config.tcp));
    return open;
  } catch (error) {
    await Promise.all(open.map(({ close }) => close()));
    throw error;
  }
}

function listenVsock(
  { config, native, roots, clock, admit }: ListenOptions,
  { port, discover, guests }: NonNullable<GateConfig['vsock']>,
): GateListener {
  const listed = new Map(
    guests.map(({ cid, instance, name }) => [cid, instanceOf(instance, name)]),
  );
  const running = createVsockGuests(roots, clock);
  const bridge = native.openVsockBridge({ maxConnections: mostConnections(config) });
  const instanceBehind = (cid: number): Instance | string | null =>
    listed.get(cid) ?? (discover ? running.find(cid) : null);
  try {
    bridge.listen(port, (fd, cid) =>
      admit(
        new Socket({ fd, readable: true, writable: true }),
        () => instanceBehind(cid),
        `vsock ${cid}`,
      ),
    );
  } catch (cause) {
    bridge.close();
    throw cannotListen(`agent.gate.vsock: port ${port}`, cause);
  }
  return { close: async () => bridge.close(), tooMany: () => bridge.counters().refused };
}

const refusals = {
  peer: 'connection_refused_user',
  'peer-unknown': 'connection_failed',
  'too-many-connections': 'connection_too_many',
} as const;

async function listenOnUnix(
  { native, admit, refused }: ListenOptions,
  { path, instance, name, allowUsers }: GateConfig['unix'][number],
  index: number,
): Promise<GateListener> {
  const guest = instanceOf(instance, name);
  const { close } = await listenUnix({
    path,
    allowUids: uidsOf(allowUsers, `agent.gate.unix[${index}].allowUsers`),
    peerUid: fd => native.peerCredentials(fd).uid,
    accept: connection => admit(connection, () => guest, `unix ${path}`),
    refused: why => refused(refusals[why]),
  });
  return { close, tooMany: () => 0 };
}

function listenTcp(
  { config, admit, refused }: ListenOptions,
  { host, port, guests }: NonNullable<GateConfig['tcp']>,
): Promise<GateListener> {
  const listed = new Map(
    guests.map(({ address, instance, name }) => [address, instanceOf(instance, name)]),
  );
  // A guest that is reset while its connection is closing gets no ping of HTTP/2 any more.
  const server = createServer({ keepAlive: true, keepAliveInitialDelay: 30_000 }, connection => {
    // An IPv4 peer of an IPv6 listener is told as mapped.
    const address = plainAddress(connection.remoteAddress ?? 'gone');
    admit(connection, () => listed.get(address) ?? null, `tcp ${address}`);
  });
  server.maxConnections = mostConnections(config);
  server.on('drop', () => refused('connection_too_many'));
  return bound(server, host, port, refused);
}

function bound(
  server: Server,
  host: string,
  port: number,
  refused: Refused,
): Promise<GateListener> {
  const close = () => new Promise<void>(closed => server.close(() => closed()));
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) =>
      reject(cannotListen(`agent.gate.tcp: ${host} port ${port}`, cause));
    server.once('error', fail);
    server.listen({ host, port }, () => {
      server.off('error', fail);
      // A failed accept (no descriptor left) ends one connection, not the server.
      server.on('error', () => refused('connection_failed'));
      resolve({ close, tooMany: () => 0 });
    });
  });
}

/** A connection more than each guest may have: one that is refused must be taken to be refused. */
function mostConnections({ maxGuests, maxConnections }: GateConfig): number {
  return maxGuests * (maxConnections + 1);
}

function cannotListen(where: string, cause: unknown): ConfigError {
  const message = `${where}: cannot listen: ${describeError(cause)}`;
  return new ConfigError('CONFIG_SOCKET', message, { where }, cause);
}
