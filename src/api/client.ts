import * as z from 'zod';
import { ConfigError, describeError } from '../contract/errors.ts';

// As in server.ts: an import would load much more.
const { request } = process.getBuiltinModule('node:http');

export type ApiMethod = 'GET' | 'POST' | 'PUT' | 'DELETE';

export type ApiRequestOptions<T> = {
  /** Sent as JSON; absent: no body. */
  readonly body?: unknown;
  /** What the answer must be. */
  readonly schema: z.ZodType<T>;
  /** The command that would start the part, for the message when nothing listens. */
  readonly startedBy?: string;
  readonly timeoutSeconds?: number;
};

/** A request, and where it goes. */
type Outgoing = {
  readonly socket: string;
  readonly method: ApiMethod;
  readonly path: string;
  readonly options: ApiRequestOptions<unknown>;
};

const defaultTimeoutSeconds = 10;

const errorSchema = z.object({ code: z.string(), message: z.string() });
/** Far above any answer; a part that sends more is broken. */
const maxAnswerBytes = 268_435_456;

/**
 * Asks a running part on its unix socket and answers what it said, checked by the schema.
 * @throws ConfigError CONFIG_NOT_RUNNING when nothing listens there; CONFIG_REFUSED with the part's own code and
 * message, also when it does not answer in time or answers something else than wanted
 */
export async function requestApi<T>(
  socket: string,
  method: ApiMethod,
  path: string,
  options: ApiRequestOptions<T>,
): Promise<T> {
  const outgoing = { socket, method, path, options };
  const { status, text } = await exchange(outgoing);
  const json = parseJson(text);
  if (status !== 200) throw refusal(outgoing, status, json);
  const result = options.schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new ConfigError(
    'CONFIG_REFUSED',
    `${socket} ${path}: the answer is not what was wanted: ${issue?.path.join('.')}: ${issue?.message}`,
    { socket, path },
    result.error,
  );
}

type Answer = { readonly status: number; readonly text: string };

function exchange(to: Outgoing): Promise<Answer> {
  const { body, timeoutSeconds = defaultTimeoutSeconds } = to.options;
  const text = body === undefined ? undefined : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        socketPath: to.socket,
        method: to.method,
        path: to.path,
        headers: text === undefined ? {} : jsonHeaders(text),
        signal: AbortSignal.timeout(timeoutSeconds * 1000),
        // A connection that was kept may be closed by the part just when it is used again.
        agent: false,
      },
      response => {
        readAll(response).then(
          answer => resolve({ status: response.statusCode ?? 0, text: answer }),
          cause => reject(unreachable(to, cause)),
        );
      },
    );
    outgoing.once('error', cause => reject(unreachable(to, cause)));
    outgoing.end(text);
  });
}

function jsonHeaders(body: string) {
  return { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
}

async function readAll(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    bytes += chunk.byteLength;
    if (bytes > maxAnswerBytes) throw new Error(`the answer exceeds ${maxAnswerBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function unreachable({ socket, path, options }: Outgoing, cause: unknown): ConfigError {
  const code = (cause as NodeJS.ErrnoException).code;
  if (code === 'ENOENT' || code === 'ECONNREFUSED') {
    const start = options.startedBy ? `; \`${options.startedBy}\` starts it` : '';
    const message = `${socket}: nothing listens there, the part is not running${start}`;
    return new ConfigError('CONFIG_NOT_RUNNING', message, { socket }, cause);
  }
  const why =
    code === 'EACCES'
      ? 'this user may not connect (the mode of the socket)'
      : code === 'ECONNRESET' || code === 'EPIPE'
        ? 'the part closed the connection: this user is not among its sockets.allowUsers, or it is stopping'
        : code === 'ABORT_ERR'
          ? `no answer within ${options.timeoutSeconds ?? defaultTimeoutSeconds} s: the part is starting still, is stopped, or has not got a CPU`
          : describeError(cause);
  return new ConfigError('CONFIG_REFUSED', `${socket} ${path}: ${why}`, { socket, path }, cause);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // Not JSON: the schema then says what was wanted.
    return undefined;
  }
}

function refusal({ socket, path }: Outgoing, status: number, json: unknown): ConfigError {
  const error = errorSchema.safeParse(json);
  return new ConfigError('CONFIG_REFUSED', error.success ? said(error.data) : `HTTP ${status}`, {
    socket,
    path,
    status,
    code: error.success ? error.data.code : undefined,
  });
}

/** The code that this error has itself is not said twice. */
function said({ code, message }: z.infer<typeof errorSchema>): string {
  return code === 'CONFIG_REFUSED' ? message : `${code}: ${message}`;
}
