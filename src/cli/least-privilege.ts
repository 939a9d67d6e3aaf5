import { accessSync, constants } from 'node:fs';
import { delimiter } from 'node:path';
import { KernelInterfaceError } from '../contract/errors.ts';
import type { Say } from '../contract/ports.ts';
import {
  type Capability,
  granted,
  has,
  lacking,
  type OwnPrivileges,
  readOwnPrivileges,
  setOf,
} from '../linux/capabilities.ts';
import { hostRoots } from '../linux/roots.ts';
import type { Account } from './account.ts';

/** What a process is to be: with no capability but these, and, where one is given, of this user. */
export type Wanted = {
  readonly capabilities: readonly Capability[];
  readonly account: Account | null;
};

/** Set in the process that has given up its privileges: it is not to try again. */
const marker = 'SCULPT_PRIVILEGES';

/** Whether this process is what `keepOnly` made of one that has said and done all that comes before. */
export function isSecondLife(): boolean {
  return process.env[marker] !== undefined;
}

/**
 * Gives up, for good and for every thread, all that is not wanted: the process executes itself anew by way of setpriv(1),
 * with its pid and arguments, and returns from here the second time. To be called before anything is started or opened.
 * docs/decisions/0011-privileges.md says why this way. `reads`: files that it opens then, beside the program.
 * @throws KernelInterfaceError KERNEL_PRIVILEGE when it may not become that user, or could not read these then; KERNEL_MISSING without setpriv
 */
export function keepOnly(wanted: Wanted, say: Say, reads: readonly string[] = []): void {
  const isSecond = isSecondLife();
  delete process.env[marker];
  const own = readOwnPrivileges(hostRoots);
  if (own === null) return;
  const uid = process.getuid?.() ?? 0;
  const change = planChange(own, uid, wanted);
  if (change === null) {
    const isAll = isTooMuch(own, wanted.capabilities);
    say(isAll ? 'warn' : 'info', describeKept(own, wanted.capabilities));
    return;
  }
  if (isSecond)
    throw new KernelInterfaceError(
      'KERNEL_PRIVILEGE',
      'setpriv did not give up what it was told to',
      { change },
    );
  const setpriv = findSetpriv();
  mustRead(setpriv, change, reads);
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  process.execve?.(setpriv, ['setpriv', ...change, '--', ...command], {
    ...process.env,
    [marker]: '1',
  });
}

/**
 * How to run a command in a process that is what `keepOnly` would make of this one; `wanted` is null where it would do nothing.
 * @throws KernelInterfaceError as `keepOnly`
 */
export function commandWithOnly(
  wanted: Wanted | null,
  command: readonly string[],
): readonly string[] {
  const own = readOwnPrivileges(hostRoots);
  const change = wanted && own && planChange(own, process.getuid?.() ?? 0, wanted);
  if (!change) return command;
  const setpriv = findSetpriv();
  mustRead(setpriv, change, []);
  return [setpriv, ...change, '--', ...command];
}

/** A clone in a home that is closed: root without CAP_DAC_OVERRIDE is nobody there, and Node would end with a stack trace. */
function mustRead(setpriv: string, change: readonly string[], reads: readonly string[]): void {
  // Not imported: the process that goes on does not need it.
  const { spawnSync } = process.getBuiltinModule('node:child_process');
  const files = [process.execPath, process.argv[1] ?? process.execPath, ...reads];
  const { stderr } = spawnSync(setpriv, [...change, '--', 'head', '-qc', '0', '--', ...files], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const [, path] = /'(.*)' for reading: Permission denied/.exec(stderr ?? '') ?? [];
  if (path === undefined) return;
  throw new KernelInterfaceError(
    'KERNEL_PRIVILEGE',
    `${path}: the agent could not read it any more once it has given up its privileges: root without CAP_DAC_OVERRIDE, or agent.user, may not; ${remedy}`,
    { path, remedy },
  );
}

const remedy =
  'put the program and the configuration where every user may read them (/opt, /etc), not below a home that is closed';

/**
 * Arguments of setpriv that give up what is not wanted; null when nothing is too much, or can be given up. What is wanted and not held is
 * left out: who needs it says so.
 * @throws KernelInterfaceError KERNEL_PRIVILEGE
 */
export function planChange(
  own: OwnPrivileges,
  uid: number,
  { capabilities, account }: Wanted,
): string[] | null {
  const kept = granted(own.permitted, capabilities);
  const excess = ~setOf(kept);
  // Who lacks it cannot narrow what root gets anew with each program.
  const mayNarrow = has(own.permitted, 'CAP_SETPCAP');
  const becomes = account !== null && account.uid !== uid;
  const isTooMuch =
    (own.permitted & excess) !== 0n || (mayNarrow && (own.bounding & excess) !== 0n);
  if (!becomes && own.noNewPrivileges && !isTooMuch) return null;
  if (uid === 0 && !becomes && !mayNarrow) return null;
  const absent = becomes ? lacking(own.permitted, ['CAP_SETUID', 'CAP_SETGID']) : [];
  if (absent.length > 0)
    throw new KernelInterfaceError(
      'KERNEL_PRIVILEGE',
      `agent.user: to become user ${account?.uid} this process needs ${absent.join(' and ')}, which it has not; start it as that user, with ${kept.join(', ')}`,
      { absent },
    );
  const list = ['-all', ...kept.map(name => `+${name.slice('CAP_'.length).toLowerCase()}`)].join();
  return [
    ...(becomes ? identityOf(account) : []),
    ...['--inh-caps', list, '--ambient-caps', list],
    ...(mayNarrow ? ['--bounding-set', list] : []),
    '--no-new-privs',
  ];
}

function identityOf({ uid, gid, groups }: Account): string[] {
  return ['--reuid', `${uid}`, '--regid', `${gid}`, '--groups', groups.join()];
}

/** Who this process is and what it may do, for a person, where these capabilities were wanted. */
export function describeKept(own: OwnPrivileges, capabilities: readonly Capability[]): string {
  if (isTooMuch(own, capabilities))
    return 'root without CAP_SETPCAP cannot give up capabilities: it keeps all it has';
  const names = granted(own.permitted, capabilities).join(', ') || 'no capability';
  return `as user ${process.getuid?.() ?? 0}, with ${names} and no more`;
}

function isTooMuch({ permitted }: OwnPrivileges, capabilities: readonly Capability[]): boolean {
  return (permitted & ~setOf(granted(permitted, capabilities))) !== 0n;
}

function findSetpriv(): string {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter).concat('/usr/bin', '/bin')) {
    try {
      const path = `${folder}/setpriv`;
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there; perhaps in the next folder.
    }
  }
  throw new KernelInterfaceError(
    'KERNEL_MISSING',
    'setpriv (util-linux) is not there: without it no privileges can be given up',
    { path: 'setpriv' },
  );
}
