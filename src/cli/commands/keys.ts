import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { ConfigError } from '../../contract/errors.ts';
import { makeFolders } from '../../otlp/make-folders.ts';
import { exportKeys, generateKeys } from '../../otlp/signing.ts';
import type { Print } from '../print.ts';

/** `sculpt keys init`: the engine's private key (0600) and the public one that the sculptor trusts (0644). */
export function addKeys(program: Command, print: Print): void {
  const keys = program
    .command('keys')
    .description('the pair of keys that ties sculptors to engines');
  keys
    .command('init')
    .description('make the pair; refuses to overwrite one')
    .option('--dir <folder>', 'where', '/etc/sculptor')
    .option('--json', 'as JSON')
    .action(({ dir, json }: { dir: string; json?: true }) => {
      const made = initKeys(resolve(dir));
      print(json ? JSON.stringify(made, null, 2) : describe(made));
    });
}

type MadeKeys = { readonly privateKey: string; readonly publicKey: string };

/** @throws ConfigError CONFIG_REFUSED when one of the files is there, CONFIG_OUTPUT when the folder cannot be written */
export function initKeys(folder: string): MadeKeys {
  const made = { privateKey: join(folder, 'engine.key'), publicKey: join(folder, 'engine.pub') };
  const there = Object.values(made).find(existsSync);
  if (there !== undefined)
    throw new ConfigError(
      'CONFIG_REFUSED',
      `${there} is there already and is not overwritten: sculptors that trust it would lose their engine`,
    );
  const { privatePem, publicPem } = exportKeys(generateKeys());
  try {
    makeFolders(folder);
    // wx: should somebody else make them meanwhile, this one fails.
    writeFileSync(made.privateKey, privatePem, { mode: 0o600, flag: 'wx' });
    writeFileSync(made.publicKey, publicPem, { flag: 'wx' });
    // Whatever the umask is: the sculptor's user must be able to read it.
    chmodSync(made.publicKey, 0o644);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new ConfigError(
      'CONFIG_OUTPUT',
      `${folder}: cannot be made, or not be written to: ${code}`,
      {},
      cause,
    );
  }
  return made;
}

function describe({ privateKey, publicKey }: MadeKeys): string {
  return [
    `private key  ${privateKey}  (0600: give it to the engine's user)`,
    `public key   ${publicKey}`,
    '',
    'In the configuration (the endpoint is the one that otel-collector/sculptor.yaml has for the engine):',
    `  engine:   { endpoint: "unix:///run/sculptor/engine-out.sock", privateKey: ${privateKey} }`,
    `  sculptor: { trustedEngines: [${publicKey}] }`,
  ].join('\n');
}
