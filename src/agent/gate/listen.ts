import { createServer, type Server, Socket } from 'node:net';
import { ConfigError, describeError } from '../../contract/errors.ts';
import type { GateConfig } from '../../contract/gate-config.ts';
import type { Instance } from '../../contract/instance.ts';
import type { Clock } from '../../contract/ports.ts';
import type { Native } from '../../linux/native.ts';
import type { Roots } from '../../linux/roots.ts';
import { createVsockGuests } from '../../linux/vsock-guests.ts';
import { listenUnix } from '../../otlp/unix-socket.ts';
import { uidsOf } from '../../otlp/users.ts';
import { instanceOf } from './identity.ts';

/** Takes a connection with whom the transport says it is of; null: nobody that is known. */
export type Admit = (connection: Socket, instance: Instance | null, via: string) => void;

export type GateListener = { readonly close: () => Promise<void> };

export type ListenOptions = {
  readonly config: GateConfig;
  readonly native: Native;
  readonly roots: Roots;
  readonly clock: Clock;
  readonly admit: Admit;
  /** A connection whose user may not connect. */
  readonly refused: () => void;
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
    for (const one of config.unix) open.push(await listenOnUnix(options, one));
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
  const instanceBehind = (cid: number): Instance | null =>
    listed.get(cid) ?? (discover ? running.find(cid) : null);
  try {
    bridge.listen(port, (fd, cid) =>
      admit(
        new Socket({ fd, readable: true, writable: true }),
        instanceBehind(cid),
        `vsock ${cid}`,
      ),
    );
  } catch (cause) {
    bridge.close();
    throw cannotListen(`agent.gate.vsock: port ${port}`, cause);
  }
  return { close: async () => bridge.close() };
}

function listenOnUnix(
  { native, admit, refused }: ListenOptions,
  { path, instance, name, allowUsers }: GateConfig['unix'][number],
): Promise<GateListener> {
  const guest = instanceOf(instance, name);
  return listenUnix({
    path,
    allowUids: uidsOf(allowUsers),
    peerUid: fd => native.peerCredentials(fd).uid,
    accept: connection => admit(connection, guest, `unix ${path}`),
    refused,
  });
}

function listenTcp(
  { config, admit }: ListenOptions,
  { host, port, guests }: NonNullable<GateConfig['tcp']>,
): Promise<GateListener> {
  const listed = new Map(
    guests.map(({ address, instance, name }) => [address, instanceOf(instance, name)]),
  );
  const server = createServer(connection => {
    // An IPv4 peer of an IPv6 listener.
    const address = connection.remoteAddress?.replace(/^::ffff:(?=\d+\.)/, '') ?? 'gone';
    admit(connection, listed.get(address) ?? null, `tcp ${address}`);
  });
  server.maxConnections = mostConnections(config);
  return bound(server, host, port);
}

function bound(server: Server, host: string, port: number): Promise<GateListener> {
  return new Promise((resolve, reject) => {
    server.once('error', cause =>
      reject(cannotListen(`agent.gate.tcp: ${host} port ${port}`, cause)),
    );
    server.listen({ host, port }, () =>
      resolve({ close: () => new Promise(closed => server.close(() => closed())) }),
    );
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
