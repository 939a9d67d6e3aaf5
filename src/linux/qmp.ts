import { statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import * as z from 'zod';
import { describeError, type ErrorContext, KernelInterfaceError } from '../contract/errors.ts';
import { fdOf } from '../contract/socket-descriptor.ts';
import { readQemuArguments } from './command-line.ts';
import { isLibvirts } from './libvirt.ts';
import { loadNativeOnce } from './native.ts';
import { optionsOf } from './qemu-options.ts';
import { mostOfWords, notAnAnswer } from './qmp-answer.ts';
import { readText } from './read-file.ts';
import type { Roots } from './roots.ts';

export type QmpOptions = {
  /** For all of it; a monitor that somebody else holds never greets. */
  readonly timeoutSeconds: number;
  /** Of everything that is received. */
  readonly maxBytes: number;
  /** Who has to be the one that listens: where a QEMU says that it does is only words. Absent: whoever it is. */
  readonly listener?: number;
};

export type QmpArguments = Readonly<Record<string, string | number | boolean>>;

const messageSchema = z.union([
  z.object({ QMP: z.object({}) }),
  z.object({ return: z.unknown(), id: z.string() }),
  z.object({ error: z.object({ desc: z.string() }) }),
  z.object({ event: z.string() }),
]);

/**
 * Asks one command over the monitor's unix socket and leaves at once: a monitor serves one client at a time. Nothing is sent
 * before it has greeted as a QEMU does.
 * @throws KernelInterfaceError QMP_UNAVAILABLE: nobody listens, or another process than it should be, somebody else holds it, or it refuses
 * the command
 * @see https://www.qemu.org/docs/master/interop/qmp-spec.html
 */
export function askQmp(
  path: string,
  execute: string,
  options: QmpOptions,
  args?: QmpArguments,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let [text, received] = ['', 0];
    const end = (finish: () => void): void => {
      clearTimeout(timer);
      socket.destroy();
      finish();
    };
    const fail = (why: string, cause?: unknown, context: ErrorContext = {}): void =>
      end(() =>
        reject(
          new KernelInterfaceError(
            'QMP_UNAVAILABLE',
            `${path}: ${why}`,
            { path, execute, ...context },
            cause,
          ),
        ),
      );
    const timer = setTimeout(
      () =>
        fail(`no answer to ${execute} within ${options.timeoutSeconds} s; does another hold it?`),
      options.timeoutSeconds * 1000,
    );
    const send = (command: string, given?: QmpArguments): void => {
      const message = { execute: command, id: command, ...(given && { arguments: given }) };
      socket.write(`${JSON.stringify(message)}\n`);
    };
    const take = (line: string): void => {
      const said = messageSchema.safeParse(parseJson(line)).data;
      if (!said) fail(`is no QMP monitor: it said ${line.slice(0, 80)}`);
      else if ('QMP' in said) send('qmp_capabilities');
      else if ('error' in said) {
        const refused = said.error.desc.slice(0, mostOfWords);
        fail(`refused ${execute}: ${refused}`, undefined, { refused });
      } else if ('return' in said && said.id === execute) end(() => resolve(said.return));
      else if ('return' in said) send(execute, args);
    };
    socket.on('connect', () => {
      const { listener = null } = options;
      const other = listener === null ? null : peerOf(socket);
      if (other !== null && other !== listener)
        fail(`process ${other} listens there, not the QEMU that names it (${listener})`);
    });
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      received += chunk.length;
      if (received > options.maxBytes) {
        fail(`said more than ${options.maxBytes} bytes`);
        return;
      }
      const lines = (text + chunk).split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) if (!socket.destroyed && line.trim() !== '') take(line);
    });
    socket.on('error', cause => fail(describeError(cause), cause));
    socket.on('close', () => fail('closed without an answer'));
  });
}

/** Whether a monitor did answer `askQmp`, and refused the command: a QEMU that is too old for it does so each time. */
export function isRefusal(error: unknown): boolean {
  return error instanceof KernelInterfaceError && 'refused' in error.context;
}

/** The process that listens at the other end; null where it is not to be seen from here: in another pid namespace, or without the addon. */
function peerOf(socket: Socket): number | null {
  return loadNativeOnce()?.peerCredentials(fdOf(socket)).pid || null;
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // Judged with everything else that is no message of a monitor.
    return undefined;
  }
}

const cpusSchema = z
  .array(z.object({ 'cpu-index': z.int().min(0).max(4095), 'thread-id': z.int().min(1) }))
  .max(4096);

/**
 * vCPU index by thread id, in QEMU's own pid namespace, of an answer to `query-cpus-fast`. The `thread-id` within its `props` is of the
 * guest's topology.
 * @throws KernelInterfaceError QMP_UNAVAILABLE
 */
export function parseCpus(answer: unknown): Map<number, number> {
  const cpus = cpusSchema.safeParse(answer);
  if (!cpus.success) throw notAnAnswer('query-cpus-fast', cpus.error);
  return new Map(cpus.data.map(cpu => [cpu['thread-id'], cpu['cpu-index']]));
}

/**
 * Where a QEMU listens for QMP: the path as this process sees it, of `-qmp unix:…` or of `-chardev socket` with
 * `-mon mode=control`; null when there is none. libvirt's own monitor, by `-mon`, is never it: it has one client, libvirt.
 */
export function qmpSocketOf(roots: Roots, tgid: number): string | null {
  const path = parseQmpSocket(readQemuArguments(roots, tgid));
  if (path === null) return null;
  const isAbsolute = path.startsWith('/');
  if (isAbsolute && !mayLookInto(roots, tgid) && seesWhatInitSees(roots, tgid)) return path;
  return `${roots.proc}/${tgid}/${isAbsolute ? `root${path}` : `cwd/${path}`}`;
}

/** What a person can do about a QEMU that `qmpSocketOf` knows no socket of. */
export function adviceForQmp(roots: Roots, tgid: number): string {
  return isLibvirts(readQemuArguments(roots, tgid))
    ? `the monitor of its QEMU has one client, libvirt; for another one its domain wants <qemu:commandline><qemu:arg value='-qmp'/><qemu:arg value='unix:PATH,server=on,wait=off'/></qemu:commandline>, with xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'`
    : 'its QEMU has no QMP socket (-qmp unix:PATH,server=on,wait=off is wanted)';
}

/** The root folder of another user's process is for who has CAP_SYS_PTRACE. */
function mayLookInto(roots: Roots, tgid: number): boolean {
  try {
    statSync(`${roots.proc}/${tgid}/root/`);
    return true;
  } catch (error) {
    return !['EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '');
  }
}

/** Mount ids are the host's own: a process of the same table has the same root, and a path means the same to it. */
function seesWhatInitSees(roots: Roots, tgid: number): boolean {
  const theirs = readText(`${roots.proc}/${tgid}/mountinfo`);
  return theirs !== null && theirs === readText(`${roots.proc}/1/mountinfo`);
}

export function parseQmpSocket(args: readonly string[]): string | null {
  const chardevs = new Map<string, string>();
  const monitors: string[] = [];
  const paths: string[] = [];
  for (const [i, arg] of args.entries()) {
    const kind = /^--?(qmp|qmp-pretty|mon|chardev)$/.exec(arg)?.[1];
    if (kind === undefined) continue;
    const { first, named } = optionsOf(args[i + 1] ?? '');
    if (kind === 'chardev') {
      if (first === 'socket') chardevs.set(named.get('id') ?? '', named.get('path') ?? '');
    } else if (kind !== 'mon') paths.push(...unixPath(first));
    else if (named.get('mode') === 'control') monitors.push(named.get('chardev') ?? first);
  }
  const others = monitors.flatMap(id => chardevs.get(id) || []);
  paths.push(...others.filter(path => !path.includes('/libvirt/')));
  return paths[0] ?? null;
}

function unixPath(first: string): string[] {
  return first.startsWith('unix:') ? [first.slice('unix:'.length)] : [];
}
