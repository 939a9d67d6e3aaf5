import { lstatSync, rmSync, type Stats } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { ConfigError } from '../contract/errors.ts';
import { fdOf } from '../contract/socket-descriptor.ts';
import { makeFolders } from './make-folders.ts';

/** Why a connection was closed at once. */
export type PeerRefusal = 'peer' | 'peer-unknown' | 'too-many-connections';

/** The user at the other end of a connected socket (SO_PEERCRED). */
export type PeerUid = (fd: number) => number;

export type ListenUnixOptions = {
  readonly path: string;
  /** Users whose processes may connect; the own user always may. */
  readonly allowUids: readonly number[];
  /** Null where nobody can ask: then the kernel admits the own user and root alone, by the socket's mode. */
  readonly peerUid: PeerUid | null;
  readonly accept: (socket: Socket) => void;
  readonly refused: (why: PeerRefusal) => void;
};

/** `close` ends every connection and removes the socket file. */
export type UnixListener = { readonly close: () => Promise<void> };

export type ListenUnix = (options: ListenUnixOptions) => Promise<UnixListener>;

/** A descriptor each; no deployment has more parts than this that talk to one socket. */
const maxConnections = 256;

/**
 * Listens on a unix socket and hands over the connections of allowed users only. Its mode is 0660, or 0600 without `peerUid`; where others
 * than root and the own user are allowed, whom no mode can name, it is 0666, and who connects is asked. A socket file that nobody
 * listens on is replaced.
 * @throws ConfigError CONFIG_SOCKET when a running part has it, it is no socket, it cannot be bound, or it cannot admit them all
 */
export const listenUnix: ListenUnix = async options => {
  const { path, refused, peerUid } = options;
  const uids = new Set([...options.allowUids, ownUid()]);
  if (peerUid === null) mustBeOwn(path, uids);
  await removeStale(path);
  const open = new Set<Socket>();
  const server = createServer(socket => {
    const why = peerUid && refusal(socket, uids, peerUid);
    if (why) {
      refused(why);
      socket.destroy();
      return;
    }
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    options.accept(socket);
  });
  server.maxConnections = maxConnections;
  server.on('drop', () => refused('too-many-connections'));
  await bind(server, path, modeFor(uids, peerUid));
  return {
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve());
        for (const socket of open) socket.destroy();
      }),
  };
};

const ownUid = (): number => process.getuid?.() ?? 0;

/** The users whom a socket of mode 0600 cannot admit. */
export function notAdmittedByMode(uids: Iterable<number>): number[] {
  return [...uids].filter(uid => uid !== 0 && uid !== ownUid());
}

function modeFor(uids: Iterable<number>, peerUid: PeerUid | null): number {
  if (peerUid === null) return 0o600;
  return notAdmittedByMode(uids).length > 0 ? 0o666 : 0o660;
}

function mustBeOwn(path: string, uids: Iterable<number>): void {
  const others = notAdmittedByMode(uids);
  if (others.length > 0)
    throw new ConfigError(
      'CONFIG_SOCKET',
      `${path}: user ${others.join(', ')} cannot be admitted: this process cannot ask who connects`,
      { path },
    );
}

function refusal(socket: Socket, uids: ReadonlySet<number>, peerUid: PeerUid): PeerRefusal | null {
  try {
    return uids.has(peerUid(fdOf(socket))) ? null : 'peer';
  } catch {
    // The peer may have gone already, and then there is nobody to serve; whatever it is, it is counted.
    return 'peer-unknown';
  }
}

async function removeStale(path: string): Promise<void> {
  const found = lookAt(path);
  if (!found) return;
  if (!found.isSocket()) {
    throw new ConfigError(
      'CONFIG_SOCKET',
      `${path}: wanted a socket or nothing, got another file`,
      {
        path,
      },
    );
  }
  if (await answers(path)) {
    throw new ConfigError('CONFIG_SOCKET', `${path}: a running part listens on it already`, {
      path,
    });
  }
  const now = lookAt(path);
  // Another that is started at the same time has found it, and listens by now.
  if (now && isAnother(now, found)) return removeStale(path);
  try {
    rmSync(path, { force: true });
  } catch (cause) {
    throw cannotListen(path, cause);
  }
}

/** The number of an inode is soon used again. */
function isAnother(now: Stats, before: Stats): boolean {
  return now.ino !== before.ino || now.ctimeMs !== before.ctimeMs;
}

/** A part of its path may be no folder, or one that this user may not look into. */
function lookAt(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (cause) {
    throw cannotListen(path, cause);
  }
}

function cannotListen(path: string, cause: unknown): ConfigError {
  const got = cause instanceof Error ? cause.message : String(cause);
  return new ConfigError('CONFIG_SOCKET', `${path}: cannot listen: ${got}`, { path }, cause);
}

/** A socket that we may not connect to is somebody's: only "connection refused" means that nobody listens. */
function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const probe = createConnection(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
}

function bind(server: Server, path: string, mode: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) => reject(cannotListen(path, cause));
    server.once('error', fail);
    server.once('listening', () => {
      server.off('error', fail);
      // Failed accepts (no descriptors left) end one connection, not the server.
      server.on('error', () => undefined);
      resolve();
    });
    // The mode must hold from the first instant; listen() binds before it returns, so the mask is ours alone.
    const before = process.umask(0o777 & ~mode);
    try {
      mkdirFor(path, before);
      server.listen(path);
    } catch (cause) {
      fail(cause);
    } finally {
      process.umask(before);
    }
  });
}

function mkdirFor(path: string, umask: number): void {
  const now = process.umask(umask);
  try {
    makeFolders(dirname(path), 0o755);
  } finally {
    process.umask(now);
  }
}
