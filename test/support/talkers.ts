import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import type { CgroupBox } from './cgroup-box.ts';
import { endChild, eventually } from './scene.ts';

const workload = new URL('../../build/sculpt-workload', import.meta.url).pathname;
let made = 0;

/** A network namespace of the test's own, its loopback device up; `end` removes it. */
export type NetworkNamespace = {
  readonly name: string;
  readonly ip: (...args: string[]) => void;
  /** A counter of `Tcp:` in its /proc/net/snmp. */
  readonly tcp: (counter: string) => number;
  readonly end: () => void;
};

export function makeNamespace(): NetworkNamespace {
  made += 1;
  const name = `sculptor-test-${process.pid}-${made}`;
  execFileSync('ip', ['netns', 'add', name]);
  const ip = (...args: string[]): void => void execFileSync('ip', ['-n', name, ...args]);
  ip('link', 'set', 'lo', 'up');
  return {
    name,
    ip,
    tcp: counter => {
      const table = execFileSync('ip', ['netns', 'exec', name, 'cat', '/proc/net/snmp'], {
        encoding: 'utf8',
      });
      const [names, values] = table.split('\n').filter(line => line.startsWith('Tcp:'));
      return Number(values?.split(' ')[names?.split(' ').indexOf(counter) ?? -1]);
    },
    end: () => void execFileSync('ip', ['netns', 'del', name]),
  };
}

/** Two namespaces and a wire between them: addresses 10.99.0.1 and .2. `end` takes it away, not the namespaces. */
export async function layWire(
  from: NetworkNamespace,
  to: NetworkNamespace,
  options: { delayMs: number; dropEvery: number },
): Promise<{ end: () => Promise<void> }> {
  const ends = ['--from', from.name, '--to', to.name];
  const quality = [
    '--delay-us',
    `${options.delayMs * 1000}`,
    '--drop-every',
    `${options.dropEvery}`,
  ];
  const wire = spawn(workload, ['wire', ...ends, ...quality], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  for (const [i, { name, ip }] of [from, to].entries()) {
    await eventually(`the wire's end in ${name}`, 5, () => hasWire(name) || null);
    ip('addr', 'add', `10.99.0.${i + 1}/24`, 'dev', 'wire');
    ip('link', 'set', 'wire', 'up');
  }
  return { end: () => endChild(wire) };
}

function hasWire(namespace: string): boolean {
  const devices = execFileSync('ip', ['-n', namespace, '-o', 'link'], { encoding: 'utf8' });
  return devices.includes(' wire:');
}

/** A TCP server for one connection in a cgroup: reads to the end, answers so many bytes, and ends. */
export function serve(box: CgroupBox, at: Address, answerBytes: number): ChildProcess {
  return talk(
    box,
    at,
    `require('node:net').createServer({ allowHalfOpen: true }, socket => {
       socket.resume().on('end', () => socket.end(Buffer.alloc(${answerBytes})))
         .on('close', () => process.exit(0));
     }).listen(${at.port}, '${at.host}')`,
  );
}

/**
 * A client in a cgroup: connects when there is somebody, sends so many bytes, and half-closes. `later`: so many more, and the
 * half-close, on SIGUSR2. Ends when the other side has closed.
 */
export function send(box: CgroupBox, at: Address, bytes: number, later?: number): ChildProcess {
  return talk(
    box,
    at,
    `const connect = () => {
       const socket = require('node:net').connect(${at.port}, '${at.host}');
       socket.on('error', () => setTimeout(connect, 20)).on('connect', () => {
         socket.resume().on('close', () => process.exit(0));
         socket.${later === undefined ? 'end' : 'write'}(Buffer.alloc(${bytes}));
         process.on('SIGUSR2', () => socket.end(Buffer.alloc(${later ?? 0})));
       });
     };
     connect()`,
  );
}

export type Address = {
  readonly namespace: NetworkNamespace;
  readonly host: string;
  readonly port: number;
};

function talk(box: CgroupBox, { namespace }: Address, script: string): ChildProcess {
  return box.spawn('ip', 'netns', 'exec', namespace.name, process.execPath, '-e', script);
}

export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null)
    await new Promise(resolve => child.once('exit', resolve));
}
