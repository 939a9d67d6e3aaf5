import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { z } from 'zod';
import { ConfigError, describeError, ProtocolError, SculptorError } from '../contract/errors.ts';
import type { Running } from '../contract/ports.ts';

// An import of it would load all that it exports, a browser's fetch and sockets too: 14 MB of a part that answers on a socket.
const { createServer } = process.getBuiltinModule('node:http');

/** What a route gets. `params` are the `:name` segments of its path, decoded; `body` is what its schema made of it. */
export type ApiRequest = {
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly body: unknown;
};

export type ApiRoute = {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Such as `/actions/:id/approve`. */
  readonly path: string;
  /** Absent: the route takes no body. */
  readonly body?: z.ZodType;
  /** Answers what is sent as JSON. A SculptorError becomes the answer's `code` and `message`. */
  readonly run: (request: ApiRequest) => unknown;
};

/** A unix socket that hands over the connections of allowed users only; `src/otlp/unix-socket.ts` has it. */
export type ListenOnSocket = (options: {
  readonly path: string;
  readonly allowUids: readonly number[];
  readonly peerUid: ((fd: number) => number) | null;
  readonly accept: (socket: Socket) => void;
  readonly refused: (why: string) => void;
}) => Promise<{ readonly close: () => Promise<void> }>;

export type ApiOptions = {
  readonly socket: string;
  readonly allowUids: readonly number[];
  readonly peerUid: ((fd: number) => number) | null;
  readonly listen: ListenOnSocket;
  /** A promise that is not kept yet: the part is starting, and who asks is answered when it has. It is never broken. */
  readonly routes: readonly ApiRoute[] | Promise<readonly ApiRoute[]>;
  /** Somebody was disconnected, and why. */
  readonly refused?: (why: string) => void;
  /**
   * Who has not sent a whole request by then is cut off, within half as much again; so is who has not taken the whole answer so long
   * after it was there. Absent: 10 s. To make an answer may take longer.
   */
  readonly requestTimeoutMs?: number;
};

export type Api = Running & { readonly refusedPeers: () => number };

const maxBodyBytes = 1_048_576;
/** Answers that nobody has taken yet may be this much together: those with all profiles of a large host are some MB each. */
const maxUntakenBytes = 67_108_864;

/**
 * The HTTP API of one part on its unix socket, for people: JSON in, JSON out, errors as `{code, message}`.
 * @throws ConfigError CONFIG_SOCKET
 */
export async function startApi(options: ApiOptions): Promise<Api> {
  const { requestTimeoutMs = 10_000 } = options;
  let refusedPeers = 0;
  const times = {
    requestTimeout: requestTimeoutMs,
    connectionsCheckingInterval: requestTimeoutMs / 2,
  };
  const untaken = { bytes: 0 };
  const http = createServer(times, (request, response) => {
    answer(options.routes, request)
      .catch(errorReply)
      .then(reply => send(response, reply, requestTimeoutMs, untaken));
  });
  // Many that are sent at once would all be answered before any answer is taken, and what was not read of a body be the next.
  http.maxRequestsPerSocket = 1;
  // Node looks at those times, and knows its connections, only from here on; it is the other server that listens.
  http.emit('listening');
  const listener = await options.listen({
    path: options.socket,
    allowUids: options.allowUids,
    peerUid: options.peerUid,
    accept: socket => http.emit('connection', socket),
    refused: why => {
      refusedPeers++;
      options.refused?.(why);
    },
  });
  return {
    refusedPeers: () => refusedPeers,
    stop: async () => {
      http.closeAllConnections();
      http.close();
      await listener.close();
    },
  };
}

type Reply = { readonly status: number; readonly body: unknown };

async function answer(routes: ApiOptions['routes'], request: IncomingMessage): Promise<Reply> {
  // Not by URL(): it throws for targets that HTTP allows, such as `//`.
  const [path = '/', ...search] = (request.url ?? '/').split('?');
  const found = (await routes)
    .map(route => ({ route, params: matchPath(route.path, path) }))
    .filter(match => match.params !== null);
  if (found.length === 0) return refusal(404, `${path}: no such path`);
  const match = found.find(candidate => candidate.route.method === request.method);
  if (!match) {
    const methods = found.map(candidate => candidate.route.method).join(', ');
    return refusal(405, `${path}: wanted ${methods}, got ${request.method}`);
  }
  const text = await readBody(request);
  if (text === null) return refusal(413, `the body exceeds ${maxBodyBytes} bytes`);
  const body = parseBody(match.route, text);
  if (!body.ok) return refusal(400, body.message);
  const params = match.params ?? {};
  const result = await match.route.run({
    params,
    query: new URLSearchParams(search.join('?')),
    body: body.value,
  });
  return { status: 200, body: result ?? null };
}

function matchPath(pattern: string, path: string): Record<string, string> | null {
  const wanted = pattern.split('/');
  const got = path.split('/');
  if (wanted.length !== got.length) return null;
  const params: Record<string, string> = {};
  for (const [i, segment] of wanted.entries()) {
    const value = got[i] ?? '';
    if (segment.startsWith(':')) params[segment.slice(1)] = decodeSegment(value);
    else if (segment !== value) return null;
  }
  return params;
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    // A stray % stands for itself.
    return segment;
  }
}

async function readBody(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength;
    if (bytes > maxBodyBytes) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

type Parsed =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly message: string };

function parseBody(route: ApiRoute, text: string): Parsed {
  if (!route.body) {
    return text === '' ? { ok: true, value: undefined } : { ok: false, message: 'wanted no body' };
  }
  let json: unknown;
  try {
    json = text === '' ? undefined : JSON.parse(text);
  } catch (error) {
    return { ok: false, message: `the body is not JSON: ${describeError(error)}` };
  }
  const result = route.body.safeParse(json);
  if (result.success) return { ok: true, value: result.data };
  const issue = result.error.issues[0];
  return { ok: false, message: `${issue?.path.join('.') || 'body'}: ${issue?.message}` };
}

function refusal(status: number, message: string): Reply {
  return { status, body: { code: 'CONFIG_REFUSED', message } };
}

function errorReply(error: unknown): Reply {
  if (!(error instanceof SculptorError)) {
    return { status: 500, body: { code: 'INTERNAL', message: describeError(error) } };
  }
  const { code, message } = error;
  if (error instanceof ProtocolError) return { status: 400, body: { code, message } };
  return { status: error instanceof ConfigError ? 409 : 500, body: { code, message } };
}

function send(
  response: ServerResponse,
  reply: Reply,
  timeoutMs: number,
  untaken: { bytes: number },
): void {
  // Gone while the answer was made: nothing would tell when it has been taken.
  if (response.destroyed) return;
  let { status } = reply;
  let text = JSON.stringify(reply.body);
  if (untaken.bytes + text.length > maxUntakenBytes) {
    status = 503;
    text = JSON.stringify(refusal(status, 'too many answers wait to be taken').body);
  }
  const bytes = Buffer.byteLength(text);
  untaken.bytes += bytes;
  const cutOff = setTimeout(() => response.destroy(), timeoutMs);
  response.once('close', () => {
    clearTimeout(cutOff);
    untaken.bytes -= bytes;
  });
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': bytes,
    connection: 'close',
  });
  response.end(text);
}
