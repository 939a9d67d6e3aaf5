import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { needs } from '../support/needs.ts';

const checkout = new URL('../../', import.meta.url).pathname;
const stranger = 64_901;

/** A folder that is open to another user alone; root gets in by CAP_DAC_OVERRIDE. */
function closedHome(t: ExecutionContext): string {
  const home = mkdtempSync(join(tmpdir(), 'home-'));
  t.teardown(() => rmSync(home, { recursive: true }));
  chmodSync(home, 0o700);
  chownSync(home, stranger, stranger);
  return home;
}

function run(...command: readonly string[]) {
  const [file = '', ...args] = command;
  return spawnSync(file, args, { encoding: 'utf8', timeout: 60_000 });
}

const onPurpose = (path: string) =>
  new RegExp(`^sculpt: KERNEL_PRIVILEGE: ${path}: the agent could not read it any more`, 'm');

needs('root')(
  'a configuration in a home that is closed to root without its capabilities is told as such',
  t => {
    const config = join(closedHome(t), 'sculpt.yaml');
    writeFileSync(config, 'nice: null\n');
    const main = join(checkout, 'src/cli/main.ts');
    const { status, stderr } = run(process.execPath, main, 'agent', '--config', config);
    t.is(status, 1);
    t.regex(stderr, onPurpose(config));
  },
);

needs('root')(
  'so is a program that was cloned there, by the agent and by the doctor, and Node shows no stack trace',
  t => {
    const clone = join(closedHome(t), 'clone');
    mkdirSync(clone);
    const main = join(clone, 'src/cli/main.ts');
    // In a mount namespace that ends with it.
    const inClone = (...args: string[]) =>
      run(
        ...[
          'unshare',
          '--mount',
          'sh',
          '-c',
          'mount --bind "$1" "$2" && shift 2 && exec "$@"',
          'sh',
        ],
        ...[checkout, clone, process.execPath, main, ...args],
      );
    const agent = inClone('agent');
    t.is(agent.status, 1);
    t.regex(agent.stderr, onPurpose(main));
    t.notRegex(agent.stderr, /^ +at /m);
    const { stdout } = inClone('doctor');
    t.regex(
      stdout,
      new RegExp(`sculpt agent +missing +KERNEL_PRIVILEGE: ${main}: the agent could`),
    );
    t.regex(stdout, /how to get it: +put the program and the configuration where every user may/);
  },
);
