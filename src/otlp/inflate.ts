import { gunzipSync, inflateSync } from 'node:zlib';
import { type ServerInterceptingCallInterface, status } from '@grpc/grpc-js';

/** How a call ends of which a message was not inflated. */
type Refusal = Parameters<ServerInterceptingCallInterface['sendStatus']>[0];

/** Runs what inflates a message, or says why it is not inflated. */
type Inflate = (run: () => Buffer) => Buffer | Refusal;

type Decompress = (message: Buffer, encoding: string) => Buffer | Promise<Buffer>;

/** A flag, and the length. */
const prefixBytes = 5;
const inflaters = new Map([
  ['gzip', gunzipSync],
  ['deflate', inflateSync],
]);

/**
 * Has the messages of a call inflated by `inflate`, one after another. grpc-js inflates each aside as soon as it is there: of calls that
 * nobody will serve too, and at a cost that nobody sees. It has no public way to that.
 */
export function inflateBy(
  call: ServerInterceptingCallInterface,
  maxOutputLength: number,
  inflate: Inflate,
): void {
  const inner = call as { decompressMessage?: Decompress };
  const original = inner.decompressMessage?.bind(call);
  if (!original) return;
  inner.decompressMessage = async (message, encoding) => {
    const inflater = inflaters.get(encoding);
    if (!inflater) return original(message, encoding);
    const inflated = inflate(() => {
      try {
        return inflater(message.subarray(prefixBytes), { maxOutputLength });
      } catch (error) {
        throw refusalOf(error as NodeJS.ErrnoException);
      }
    });
    if (Buffer.isBuffer(inflated)) return inflated;
    throw inflated;
  };
}

function refusalOf({ code, message }: NodeJS.ErrnoException): Refusal {
  return code === 'ERR_BUFFER_TOO_LARGE'
    ? { code: status.RESOURCE_EXHAUSTED, details: 'the message is too large when inflated' }
    : { code: status.INTERNAL, details: `the message cannot be inflated: ${message}` };
}
