import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Console, followConsole } from './support/console.ts';
import { describeCpus } from './support/emulated-cpus.ts';
import { connectGuestAgent, type GuestAgent } from './support/guest-agent.ts';
import { checkout, type MachineOptions, startQemu } from './support/qemu.ts';

export type LabOptions = Partial<MachineOptions> & {
  /** The whole lab is ended after this; 300 s unless told. */
  readonly deadlineSeconds?: number;
  /** Called when another lab has to end first. */
  readonly waits?: () => void;
};

export type Output = { readonly code: number; readonly out: string; readonly err: string };
export type RunOptions = {
  /** 60 s unless told. */
  readonly timeoutSeconds?: number;
  readonly input?: string;
};

/** A machine that plays the host. Inside, the checkout is at /checkout and Node 24 is first in the PATH. */
export type Lab = {
  /** Runs a bash script inside and answers what it printed. Rejects when it fails, with its output. */
  readonly run: (script: string, options?: RunOptions) => Promise<string>;
  /** The same, whatever its exit code. */
  readonly tryRun: (script: string, options?: RunOptions) => Promise<Output>;
  /** Starts a script that goes on; its output is in the file `log` inside. `stop` ends its whole group by a signal. */
  readonly start: (
    script: string,
    log: string,
  ) => Promise<{ tgid: number; stop: (signal?: string) => Promise<void> }>;
  /** Writes a file inside. */
  readonly write: (path: string, text: string) => Promise<void>;
  /** Runs a script again and again until it succeeds; what it printed then. Rejects after `timeoutSeconds` (60). */
  readonly until: (script: string, timeoutSeconds?: number) => Promise<string>;
  readonly console: ReturnType<typeof followConsole>;
  /** Unix sockets on the outer machine: QEMU's QMP, and the console of the shell where one was asked for. */
  readonly qmpSocket: string;
  readonly shellSocket: string;
  /** From the start of QEMU until the guest agent answered. */
  readonly bootSeconds: number;
};

/** How long another lab is waited for. */
const longestWaitSeconds = 1800;

/**
 * What the kernel says when an emulated CPU has lost its timer for good, as one boot in a hundred does (QEMU 10.0: the APIC has
 * the timer's vector in service, and the CPU halts). It cannot come up then.
 */
const lostTimer = /rcu_preempt kthread timer wakeup didn't happen/;
class LostTimer extends Error {}
/** It says so after 21 s. */
const longestBootSeconds = 60;

/** What a script inside says of a guest under KVM that the emulated CPU has ended: see inside/whole-guest.ts. */
const tripleFault = /a triple fault ended the guest: kvm_exit: .*/;
export const mostBoots = 3;

/**
 * Boots the lab, hands it to `use`, and ends it, whatever happens. One lab runs at a time on a machine; another waits.
 * What went wrong is thrown with the console's last lines; more of it is in build/lab-consoles. Where the emulation went wrong, by
 * its own trace, it is booted again, and that is said: one that lost its timer before it came up, and one with a guest that a triple fault ended.
 */
export async function withLab<T>(options: LabOptions, use: (lab: Lab) => Promise<T>): Promise<T> {
  for (let boots = 1; ; boots += 1) {
    try {
      return await bootedLab(options, use);
    } catch (error) {
      const why = emulationFault(error);
      if (why === null || boots === mostBoots) throw error;
      console.error(`# lab: booted again: ${why}`);
    }
  }
}

/** Null: whatever it was, the test has to do with it. */
function emulationFault(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  if (error.cause instanceof LostTimer) return error.cause.message;
  return tripleFault.exec(error.message)?.[0] ?? null;
}

async function bootedLab<T>(options: LabOptions, use: (lab: Lab) => Promise<T>): Promise<T> {
  const kernel = options.kernel ?? '6.1';
  const folder = execFileSync('sh', [`${checkout}/scripts/build-lab.sh`, kernel], {
    encoding: 'utf8',
  }).trim();
  removeLeftovers();
  const run = mkdtempSync(`${tmpdir()}/${prefix}${process.pid}-`);
  mkdirSync(`${run}/share`);
  const machine = { kernel, init: 'plain', memoryMiB: 3072, shell: false, ...options } as const;
  const qemu = startQemu(machine, { lab: folder, run });
  let gone: string | null = null;
  const ended = new Promise<void>(resolve =>
    qemu.once('close', (code, signal) => {
      gone = `QEMU has ended (${signal ?? code})`;
      resolve();
    }),
  );
  const screen = followConsole(qemu.stdout ?? fail('stdout'), qemu.stderr ?? fail('stderr'));
  let agent: GuestAgent | undefined;
  const deadlineSeconds = options.deadlineSeconds ?? 300;
  let deadline: NodeJS.Timeout | undefined;
  try {
    const waiting = options.waits && setTimeout(options.waits, 2000);
    await Promise.race([screen.waitFor(/^lab: begins$/, longestWaitSeconds), ended]).finally(() =>
      clearTimeout(waiting),
    );
    const began = performance.now();
    const tooLate = new Promise<never>((_, reject) => {
      const error = new Error(`the lab did not end within its ${deadlineSeconds} s`);
      deadline = setTimeout(() => reject(error), deadlineSeconds * 1000);
    });
    const boot = connectGuestAgent(`${run}/agent.sock`, () => gone !== null);
    agent = await Promise.race([boot, tooLate, losesTimer(screen)]);
    const bootSeconds = (performance.now() - began) / 1000;
    const lab = inside(agent, {
      console: screen,
      qmpSocket: `${run}/qmp.sock`,
      shellSocket: `${run}/shell.sock`,
      bootSeconds,
    });
    if (machine.init === 'systemd') {
      await Promise.race([lab.until('systemctl is-active --quiet lab.target', 120), tooLate]);
    }
    return await Promise.race([use(lab), tooLate]);
  } catch (error) {
    const last = screen.tail().map(line => `  | ${line}`);
    // Its sockets close a moment before it has ended.
    await Promise.race([ended, sleep(500)]);
    const what = [error instanceof Error ? error.message : error, ...(gone ? [gone] : [])].join(
      ': ',
    );
    const path = keep(kernel, [...screen.all(), await describeCpus(`${run}/qmp.sock`)]);
    throw new Error(`${what}\nits console is in ${path}, the last lines:\n${last.join('\n')}`, {
      cause: error,
    });
  } finally {
    clearTimeout(deadline);
    agent?.close();
    qemu.kill('SIGKILL');
    await ended;
    rmSync(run, { recursive: true, force: true });
  }
}

/** Writes to a file what is known of a lab that failed, since the reason is seldom among the last lines; its path. */
function keep(kernel: string, lines: readonly string[]): string {
  const folder = `${checkout}/build/lab-consoles`;
  mkdirSync(folder, { recursive: true });
  const path = `${folder}/${new Date().toISOString().replaceAll(':', '-')}-${kernel}.log`;
  writeFileSync(path, `${lines.join('\n')}\n`);
  return path;
}

/** Rejects when the machine says so, and never resolves. */
async function losesTimer(screen: Console): Promise<never> {
  await screen.waitFor(lostTimer, longestBootSeconds).catch(() => new Promise(() => undefined));
  throw new LostTimer('an emulated CPU lost its timer');
}

const prefix = 'sculptor-lab-';

/** Folders of labs whose process was killed: it could not remove them. */
function removeLeftovers(): void {
  for (const name of readdirSync(tmpdir())) {
    const tgid = Number(/^sculptor-lab-(\d+)-/.exec(name)?.[1]);
    if (tgid > 0 && !existsSync(`/proc/${tgid}`))
      rmSync(`${tmpdir()}/${name}`, { recursive: true, force: true });
  }
}

function fail(what: string): never {
  throw new Error(`QEMU has no ${what}`);
}

function inside(
  agent: GuestAgent,
  rest: Pick<Lab, 'console' | 'qmpSocket' | 'shellSocket' | 'bootSeconds'>,
): Lab {
  const tryRun: Lab['tryRun'] = async (script, { timeoutSeconds = 60, input } = {}) => {
    const { pid } = (await agent.ask('guest-exec', {
      path: '/usr/bin/timeout',
      arg: ['-k', '5', `${timeoutSeconds}`, '/bin/bash', '-c', script],
      env: environment,
      'capture-output': true,
      ...(input === undefined ? {} : { 'input-data': Buffer.from(input).toString('base64') }),
    })) as { pid: number };
    for (let wait = 20; ; wait = Math.min(wait * 1.5, 500)) {
      const status = (await agent.ask('guest-exec-status', { pid })) as ExecStatus;
      if (status.exited)
        return {
          code: status.exitcode ?? 128 + (status.signal ?? 0),
          out: decode(status['out-data']),
          err: decode(status['err-data']),
        };
      await sleep(wait);
    }
  };
  const run: Lab['run'] = async (script, options) => {
    const { code, out, err } = await tryRun(script, options);
    if (code === 0) return out;
    throw new Error(
      `inside the lab, exit code ${code}${code === 124 ? ' (timed out)' : ''}: ${script}\n${out}${err}`,
    );
  };
  return {
    ...rest,
    run,
    tryRun,
    start: async (script, log) => {
      const tgid = Number(
        await run(
          `script=$(cat); setsid bash -c "$script" </dev/null >${quoted(log)} 2>&1 & echo $!`,
          {
            input: script,
          },
        ),
      );
      return {
        tgid,
        stop: async (signal = 'TERM') => {
          await run(
            `kill -${signal} -${tgid} 2>/dev/null; timeout 30 tail --pid=${tgid} -f /dev/null || kill -KILL -${tgid}`,
          );
        },
      };
    },
    write: async (path, text) => {
      await run(`cat >${quoted(path)}`, { input: text });
    },
    until: async (script, timeoutSeconds = 60) => {
      const until = performance.now() + timeoutSeconds * 1000;
      for (;;) {
        const { code, out, err } = await tryRun(script);
        if (code === 0) return out;
        if (performance.now() > until)
          throw new Error(`not within ${timeoutSeconds} s: ${script}\n${out}${err}`);
        await sleep(250);
      }
    },
  };
}

/** One word for bash. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

type ExecStatus = {
  exited: boolean;
  exitcode?: number;
  signal?: number;
  'out-data'?: string;
  'err-data'?: string;
};

const environment = [
  'PATH=/usr/local/bin:/checkout/node_modules/.bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin',
  'HOME=/root',
  'LANG=C.UTF-8',
];

function decode(data: string | undefined): string {
  return data === undefined ? '' : Buffer.from(data, 'base64').toString();
}
