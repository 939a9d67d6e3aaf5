import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { createConnection } from 'node:net';
import { describeError } from '../contract/errors.ts';
import { grpcStatus, statusOfHttp, statusOfReset } from './grpc-status.ts';
import { statusDetailsKey } from './retry-info.ts';

/** How a call ended: `message` is empty unless the status is OK. `details`: a google.rpc.Status, where one came. */
export type GrpcAnswer = {
  readonly status: number;
  readonly reason: string;
  readonly message: Buffer;
  readonly details: Buffer | null;
};

/** Calls methods that take one message and answer one. A call never throws: how it failed is its answer. */
export type GrpcClient = {
  /** `answerSeconds`: so long may the answer take where there is a connection; as `timeoutSeconds` unless it is longer. */
  readonly call: (path: string, message: Uint8Array, answerSeconds?: number) => Promise<GrpcAnswer>;
  /** What is under way may end within `timeoutSeconds`; a later call opens a connection again. */
  readonly close: () => void;
};

export type GrpcClientOptions = {
  /** `unix:///path` and `http://host:port` in clear text, `https://host:port` with TLS. */
  readonly endpoint: string;
  /** After this a call is given up: UNAVAILABLE where there is no connection yet, DEADLINE_EXCEEDED where no answer came. */
  readonly timeoutSeconds: number;
};

/** Of an answer; more than an Export is ever answered with. */
const maxAnswerBytes = 4_194_304;

/** Of a message: a flag for compression, and its length. @see https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
const prefixBytes = 5;

/** Unary gRPC over Node's own HTTP/2: docs/decisions/0013 says why. */
export function createGrpcClient({ endpoint, timeoutSeconds }: GrpcClientOptions): GrpcClient {
  let connection: Connection | null = null;

  /** The one that is open, or a new one: after whatever ended the last, the next call tries again. */
  const connected = (): Connection => {
    if (connection && !connection.session.closed && !connection.session.destroyed)
      return connection;
    const session = openSession(endpoint);
    // Each stream tells its own caller; unheard here it would end the process.
    session.on('error', () => undefined);
    connection = { session, answers: 0 };
    return connection;
  };

  return {
    call: async (path, message, answerSeconds = timeoutSeconds) => {
      try {
        const used = connected();
        const wait = { timeoutSeconds, answerSeconds: Math.max(answerSeconds, timeoutSeconds) };
        const stream = used.session.request(
          {
            ':method': 'POST',
            ':path': path,
            te: 'trailers',
            'user-agent': 'sculptor',
            'content-type': 'application/grpc',
            'grpc-timeout': `${Math.ceil(wait.answerSeconds * 1000)}m`,
          },
          { endStream: false },
        );
        const answer = answerOf(stream, used, wait);
        // Both leave together, and nothing is copied into a frame: a message is a megabyte, now and then.
        stream.cork();
        stream.write(prefixOf(message));
        stream.end(message);
        return await answer;
      } catch (error) {
        // An endpoint that is no URL, say: Node throws before anything is opened.
        return failed({ status: grpcStatus.UNAVAILABLE, reason: describeError(error) });
      }
    },
    close: () => {
      const closing = connection?.session;
      connection = null;
      if (!closing || closing.destroyed) return;
      closing.close();
      const end = setTimeout(() => closing.destroy(), timeoutSeconds * 1000);
      closing.once('close', () => clearTimeout(end));
    },
  };
}

/** `answers`: how many came over it, whole. */
type Connection = { readonly session: ClientHttp2Session; answers: number };

function openSession(endpoint: string): ClientHttp2Session {
  if (!endpoint.startsWith('unix:')) return connect(endpoint);
  const path = endpoint.replace(/^unix:(\/\/)?/, '');
  return connect('http://localhost', { createConnection: () => createConnection(path) });
}

function prefixOf(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(prefixBytes);
  prefix.writeUInt32BE(message.byteLength, 1);
  return prefix;
}

type Headers = Readonly<Record<string, string | readonly string[] | number | undefined>>;

function answerOf(
  stream: ClientHttp2Stream,
  connection: Connection,
  { timeoutSeconds, answerSeconds }: { timeoutSeconds: number; answerSeconds: number },
): Promise<GrpcAnswer> {
  return new Promise(resolve => {
    const parts: Buffer[] = [];
    let bytes = 0;
    let http: number | null = null;
    let told: Headers | null = null;
    let failure: { status: number; reason: string } | null = null;
    const fail = (status: number, reason: string): void => {
      failure ??= { status, reason };
    };
    const { session, answers } = connection;
    const giveUp = (status: number, reason: string): void => {
      fail(status, reason);
      // Who is silent for so long may be gone for good, and its connection with it; not who has answered another call meanwhile.
      if (connection.answers > answers) cutOff();
      else session.destroy();
    };
    const cutOff = (): void => {
      stream.close(constants.NGHTTP2_CANCEL);
      stream.destroy();
    };
    const giveUpUnanswered = (): void =>
      giveUp(grpcStatus.DEADLINE_EXCEEDED, `no answer within ${rounded(answerSeconds)} s`);
    let timer = setTimeout(() => {
      if (session.connecting)
        giveUp(grpcStatus.UNAVAILABLE, `no connection within ${timeoutSeconds} s`);
      else timer = setTimeout(giveUpUnanswered, (answerSeconds - timeoutSeconds) * 1000);
    }, timeoutSeconds * 1000);
    // An answer without a message has its status there.
    stream.on('response', headers => {
      http = headers[':status'] ?? null;
      if (headers['grpc-status'] !== undefined) told = headers;
    });
    stream.on('trailers', headers => {
      told = headers;
    });
    stream.on('data', (part: Buffer) => {
      bytes += part.byteLength;
      if (bytes <= maxAnswerBytes) parts.push(part);
      else {
        fail(grpcStatus.RESOURCE_EXHAUSTED, `the answer is over ${maxAnswerBytes} bytes`);
        cutOff();
      }
    });
    stream.on('error', (error: NodeJS.ErrnoException) => {
      // All other errors are the connection's.
      const isReset = error.code === 'ERR_HTTP2_STREAM_ERROR';
      const status = isReset ? statusOfReset(stream.rstCode ?? 0) : grpcStatus.UNAVAILABLE;
      fail(status, describeError(error));
    });
    stream.once('close', () => {
      clearTimeout(timer);
      if (told) connection.answers += 1;
      resolve(failure ? failed(failure) : ended(stream, http, told, Buffer.concat(parts)));
    });
  });
}

function ended(
  stream: ClientHttp2Stream,
  http: number | null,
  told: Headers | null,
  body: Buffer,
): GrpcAnswer {
  if (told) {
    const status = Number(told['grpc-status']);
    const details = binaryOf(told[statusDetailsKey]);
    const reason = decodedMessage(String(told['grpc-message'] ?? ''));
    if (status !== grpcStatus.OK) return { ...failed({ status, reason }), details };
    const message = messageOf(body);
    return message ?? failed({ status: grpcStatus.INTERNAL, reason: 'the answer is no message' });
  }
  if (http === null) {
    const status = stream.rstCode ? statusOfReset(stream.rstCode) : grpcStatus.UNAVAILABLE;
    return failed({ status, reason: 'the connection ended without an answer' });
  }
  if (http === 200) return failed({ status: grpcStatus.UNKNOWN, reason: 'no status came' });
  return failed({ status: statusOfHttp(http), reason: `HTTP status ${http}` });
}

function failed({ status, reason }: { status: number; reason: string }): GrpcAnswer {
  return { status, reason, message: Buffer.alloc(0), details: null };
}

/** Null for what is not one whole message without compression, which was not offered. */
function messageOf(body: Buffer): GrpcAnswer | null {
  if (body.byteLength < prefixBytes || body[0] !== 0) return null;
  const message = body.subarray(prefixBytes);
  if (message.byteLength !== body.readUInt32BE(1)) return null;
  return { status: grpcStatus.OK, reason: '', message, details: null };
}

function binaryOf(value: Headers[string]): Buffer | null {
  return typeof value === 'string' ? Buffer.from(value, 'base64') : null;
}

function rounded(seconds: number): number {
  return Math.round(seconds * 10) / 10;
}

/** Percent-encoded UTF-8; what is not is shown as it is. */
function decodedMessage(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
