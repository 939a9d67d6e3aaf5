import { Socket } from 'node:net';
import { ConfigError, describeError } from '../contract/errors.ts';
import type { Clock, Running, Say } from '../contract/ports.ts';
import type { Native } from '../linux/native.ts';
import { listenUnix } from '../otlp/unix-socket.ts';
import { createSayLimit } from './say-limit.ts';

/** Where the exporters send instead. */
export type VsockUplink = Running & { readonly endpoint: string };

export type VsockUplinkOptions = {
  /** `vsock://cid:port`; context id 2 is the host. */
  readonly endpoint: string;
  /** A file of this folder is the socket between the exporters and the uplink. */
  readonly folder: string;
  readonly native: Pick<Native, 'openVsockBridge' | 'peerCredentials'>;
  readonly clock: Clock;
  readonly say: Say;
};

/** The agent's exporters share a connection each; more come only while old ones end. */
const maxConnections = 16;

/**
 * Makes AF_VSOCK reachable for gRPC, which knows no such endpoint and takes no connection of ours: each connection to a
 * private unix socket (own user only) is carried over a vsock connection of its own. When that ends so does the other,
 * and the exporter dials again.
 * @throws ConfigError CONFIG_INVALID for another endpoint, CONFIG_SOCKET
 */
export async function startVsockUplink(options: VsockUplinkOptions): Promise<VsockUplink> {
  const { cid, port } = parseVsock(options.endpoint);
  const { native } = options;
  const say = createSayLimit(options.clock, options.say);
  const path = `${options.folder}/agent-vsock.sock`;
  const bridge = native.openVsockBridge({ maxConnections });
  let failed = 0;
  let stopped = false;
  const sayWhy = (): void => {
    if (stopped) return;
    const now = bridge.counters();
    if (now.failed > failed) say(`agent: ${options.endpoint}: ${now.lastFailure}`);
    failed = now.failed;
  };
  const carry = (local: Socket): void => {
    try {
      const remote = new Socket({ fd: bridge.dial(cid, port), readable: true, writable: true });
      joinSockets(local, remote);
      remote.once('end', sayWhy);
    } catch (error) {
      say(`agent: ${describeError(error)}`);
      local.destroy();
    }
  };
  const listener = await listenUnix({
    path,
    allowUids: [],
    peerUid: fd => native.peerCredentials(fd).uid,
    accept: carry,
    refused: why => say(`agent: ${path}: a connection was refused: ${why}`),
  }).catch(error => {
    bridge.close();
    throw error;
  });
  return {
    endpoint: `unix://${path}`,
    stop: async () => {
      stopped = true;
      await listener.close();
      bridge.close();
    },
  };
}

function parseVsock(endpoint: string): { cid: number; port: number } {
  const [, cid, port] = /^vsock:\/\/(\d+):(\d+)$/.exec(endpoint) ?? [];
  const most = 4_294_967_294;
  if (Number(cid) <= most && Number(port) <= most) return { cid: Number(cid), port: Number(port) };
  throw new ConfigError(
    'CONFIG_INVALID',
    `agent.endpoint: got ${endpoint}, wanted vsock://cid:port with numbers up to ${most}`,
    { at: 'agent.endpoint', got: endpoint },
  );
}

/** Carries bytes both ways; either end that closes closes the other. An error of one is the end of both. */
function joinSockets(a: Socket, b: Socket): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.pipe(to);
    from.on('error', () => to.destroy());
    from.once('close', () => to.destroy());
  }
}
