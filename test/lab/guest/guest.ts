import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Console, followConsole } from '../support/console.ts';
import { checkout } from '../support/qemu.ts';

export type GuestOptions = {
  /** A name that `build-lab.sh --kernels` lists; 6.1 unless told. */
  readonly kernel?: string;
  /** As `workload.c` describes: `idle` (unless told), `busy`, `ticking,MS`, `dirtying,MB,PAGES`, `steal,MS`, `echo`, `writing,COUNT,KB`, `reading,COUNT,KB`, `discarding,COUNT,KB`, `cpuid,COUNT`, joined by `+`. */
  readonly workload?: string;
  readonly name?: string;
  /** A random one unless told; empty: QEMU is given none. */
  readonly uuid?: string;
  /** 2 unless told. */
  readonly cpus?: number;
  /** 192 unless told: the kernel takes some 60. */
  readonly memoryMiB?: number;
  /** Modules that the guest loads, such as `virtio_net`. */
  readonly modules?: readonly string[];
  /** Folders of cgroups (v1 or v2) that QEMU is in from its first instant. */
  readonly cgroups?: readonly string[];
  /** What QEMU holds open from its first instant, by number (3 to 9), as libvirt passes it. */
  readonly descriptors?: Readonly<Record<number, string>>;
  /** Further arguments of QEMU. */
  readonly qemu?: readonly string[];
  /** The guest is ended after this; 120 s unless told. */
  readonly deadlineSeconds?: number;
};

/** A small Linux guest on this machine. Emulated: its vCPU threads are ordinary threads named `CPU n/TCG`. */
export type Guest = {
  readonly name: string;
  readonly uuid: string;
  /** QEMU's process. */
  readonly tgid: number;
  readonly qmpSocket: string;
  readonly console: Console;
  /** From the start of QEMU until the workload had begun. */
  readonly bootSeconds: number;
};

/** The folder with a guest's kernel and initramfs, made where it is not there yet; `needsLab` tells whether it can be. */
export function buildGuest(kernel = '6.1'): string {
  const script = (name: string, argument: string): string =>
    execFileSync('sh', [`${checkout}/${name}`, argument], { encoding: 'utf8' }).trim();
  const lab = script('scripts/build-lab.sh', kernel);
  return script('test/lab/guest/build-guest.sh', `${lab}/kernel-${kernel}`);
}

/**
 * Starts a guest, waits until its workload has begun, hands it to `use`, and ends it, whatever happens; the kernel does,
 * should our process die. What went wrong is thrown with the console's last lines.
 */
export async function withGuest<T>(
  options: GuestOptions,
  use: (guest: Guest) => Promise<T>,
): Promise<T> {
  const folder = buildGuest(options.kernel);
  const run = mkdtempSync(`${tmpdir()}/sculptor-guest-`);
  const { name = 'guest', uuid = randomUUID() } = options;
  const qmpSocket = `${run}/qmp.sock`;
  const enter = (options.cgroups ?? []).map(cgroup => `echo $$ >'${cgroup}/cgroup.procs' && `);
  const open = Object.entries(options.descriptors ?? {}).map(
    ([number, path]) => `exec ${number}<>'${path}' && `,
  );
  const qemu = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', 'sh', '-c', `${[...enter, ...open].join('')}exec sh "$0" "$@"`],
      ...[`${checkout}/test/lab/guest/run-guest.sh`, folder, 'tcg', name, uuid, qmpSocket],
      ...[options.workload ?? 'idle', ...(options.qemu ?? [])],
    ],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        CPUS: `${options.cpus ?? 2}`,
        MEMORY: `${options.memoryMiB ?? 192}`,
        MODULES: (options.modules ?? []).join(),
      },
    },
  );
  const ended = new Promise<void>(resolve => qemu.once('close', () => resolve()));
  const screen = followConsole(qemu.stdout, qemu.stderr);
  const deadlineSeconds = options.deadlineSeconds ?? 120;
  const deadline = new AbortController();
  const never = Promise.race([
    ended.then(() => `ended by itself, exit code ${qemu.exitCode}`),
    sleep(deadlineSeconds * 1000, `did not end within its ${deadlineSeconds} s`, deadline),
  ]).then(what => {
    throw new Error(`the guest ${what}`);
  });
  try {
    const began = performance.now();
    await Promise.race([screen.waitFor(/^READY/, deadlineSeconds), never]);
    const bootSeconds = (performance.now() - began) / 1000;
    const tgid = qemu.pid ?? 0;
    return await Promise.race([
      use({ name, uuid, tgid, qmpSocket, console: screen, bootSeconds }),
      never,
    ]);
  } catch (error) {
    const last = screen.tail().map(line => `  | ${line}`);
    throw new Error(
      `${error instanceof Error ? error.message : error}\nthe guest's last lines:\n${last.join('\n')}`,
      { cause: error },
    );
  } finally {
    deadline.abort();
    never.catch(() => undefined);
    qemu.kill('SIGKILL');
    await ended;
    rmSync(run, { recursive: true, force: true });
  }
}

/** Several guests that start at the same time; `use` gets them in the order of `options` when all have begun. All end with it, or when one ends by itself. */
export async function withGuests<T>(
  options: readonly GuestOptions[],
  use: (guests: readonly Guest[]) => Promise<T>,
): Promise<T> {
  const begun = options.map(() => Promise.withResolvers<Guest>());
  const failure = Promise.withResolvers<never>();
  const over = Promise.race([
    Promise.all(begun.map(({ promise }) => promise)).then(use),
    failure.promise,
  ]);
  const ends = options.map((each, i) =>
    withGuest(each, guest => {
      begun[i]?.resolve(guest);
      return over;
    }),
  );
  for (const end of ends) end.catch(failure.reject);
  await Promise.allSettled(ends);
  // What a guest's own end throws has its last lines.
  await Promise.all(ends);
  return over;
}
