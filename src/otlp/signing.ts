import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ConfigError, describeError, ProtocolError } from '../contract/errors.ts';
import {
  type EventName,
  type EventRecord,
  type OutgoingEvent,
  signedBytes,
} from '../contract/events.ts';
import { attr } from '../contract/metrics.ts';
import type { LogEvent } from '../contract/telemetry.ts';
import { flatCopies } from './flat-copies.ts';

/** An Ed25519 pair. Export with `exportKeys` to keep it; in memory it is as good. */
export function generateKeys(): { readonly privateKey: KeyObject; readonly publicKey: KeyObject } {
  return generateKeyPairSync('ed25519');
}

/** The two PEM files of a pair: PKCS #8 (to be kept 0600) and SPKI. */
export function exportKeys(keys: {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}): {
  readonly privatePem: string;
  readonly publicPem: string;
} {
  return {
    privatePem: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicPem: keys.publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  };
}

/** @throws ConfigError CONFIG_KEYS_MISSING when the file is absent, unreadable or no Ed25519 private key */
export function readPrivateKey(path: string): KeyObject {
  return readKey(path, 'private', createPrivateKey);
}

/** @throws ConfigError CONFIG_KEYS_MISSING, also for an empty list: without a trusted engine nothing could be verified */
export function readPublicKeys(paths: readonly string[]): KeyObject[] {
  if (paths.length === 0) {
    throw new ConfigError(
      'CONFIG_KEYS_MISSING',
      'sculptor.trustedEngines: wanted at least one public key file, got none; `sculpt keys init` makes a pair',
    );
  }
  return paths.map(path => readKey(path, 'public', createPublicKey));
}

function readKey(
  path: string,
  kind: 'private' | 'public',
  create: (pem: string) => KeyObject,
): KeyObject {
  try {
    const pem = readFileSync(path, 'utf8');
    // Of a private one a public one could be made: who only verifies is not to hold it.
    const found = /^-----BEGIN (?:.* )?(PRIVATE|PUBLIC) KEY-----/m.exec(pem)?.[1]?.toLowerCase();
    if (found !== kind) throw new Error(found === undefined ? 'no key' : `a ${found} one`);
    const key = create(pem);
    if (key.asymmetricKeyType === 'ed25519') return key;
    throw new Error(`a key of type ${key.asymmetricKeyType}`);
  } catch (cause) {
    const message = `${path}: wanted an Ed25519 ${kind} key (PEM), got ${describeError(cause)}; \`sculpt keys init\` makes a pair`;
    throw new ConfigError('CONFIG_KEYS_MISSING', message, { path }, cause);
  }
}

/** An event that the sculptor acts on: the record as the JSON text that is signed, and flat copies for people. */
export function signedEvent<N extends EventName>(
  eventName: N,
  record: EventRecord<N>,
  privateKey: KeyObject,
  body: string,
): OutgoingEvent {
  const payload = JSON.stringify(record);
  const signature = sign(null, signedBytes(eventName, payload), privateKey).toString('base64');
  return {
    eventName,
    body,
    attributes: {
      ...flatCopies(eventName, record),
      [attr.payload]: payload,
      [attr.signature]: signature,
    },
  };
}

/**
 * Returns when one of the keys signed this event's name and payload. The name comes from the caller, never from a
 * copy in the attributes.
 * @throws ProtocolError EVENT_SIGNATURE
 */
export function verifyEvent(
  event: LogEvent,
  name: EventName,
  publicKeys: readonly KeyObject[],
): void {
  const payload = event.attributes[attr.payload];
  const signature = event.attributes[attr.signature];
  if (typeof payload !== 'string' || typeof signature !== 'string') {
    const missing = typeof payload !== 'string' ? attr.payload : attr.signature;
    throw new ProtocolError('EVENT_SIGNATURE', `${name}: ${missing}: wanted a string, got none`, {
      at: missing,
      signed: false,
    });
  }
  const bytes = signedBytes(name, payload);
  const raw = Buffer.from(signature, 'base64');
  // An Ed25519 signature has 64 bytes (RFC 8032).
  if (raw.byteLength === 64 && publicKeys.some(key => verify(null, bytes, key, raw))) return;
  throw new ProtocolError(
    'EVENT_SIGNATURE',
    `${name}: ${attr.signature}: matches none of ${publicKeys.length} trusted engines`,
    { at: attr.signature, signed: true },
  );
}
