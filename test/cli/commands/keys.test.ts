import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { initKeys } from '../../../src/cli/commands/keys.ts';
import { ConfigError } from '../../../src/contract/errors.ts';
import { readPrivateKey, readPublicKeys } from '../../../src/otlp/signing.ts';

test('keys init writes a private key for its owner alone and a public one for all', t => {
  const folder = mkdtempSync(join(tmpdir(), 'keys-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const made = initKeys(join(folder, 'new'));
  t.is(statSync(made.privateKey).mode & 0o777, 0o600);
  t.is(statSync(made.publicKey).mode & 0o777, 0o644);
  t.is(readPrivateKey(made.privateKey).asymmetricKeyType, 'ed25519');
  t.is(readPublicKeys([made.publicKey]).length, 1);
});

test('keys init never overwrites a pair', t => {
  const folder = mkdtempSync(join(tmpdir(), 'keys-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const { privateKey } = initKeys(folder);
  const before = readFileSync(privateKey, 'utf8');
  const error = t.throws(() => initKeys(folder), { instanceOf: ConfigError });
  t.is(error?.code, 'CONFIG_REFUSED');
  t.is(readFileSync(privateKey, 'utf8'), before);
});

test('keys init into a folder that cannot be made is refused, and does not try for ever', t => {
  const error = t.throws(() => initKeys('/proc/sculptor/keys'), { instanceOf: ConfigError });
  t.is(error?.code, 'CONFIG_OUTPUT');
  t.is(error?.message, '/proc/sculptor/keys: cannot be made, or not be written to: ENOENT');
});
