import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { askQmp } from '../../../src/linux/qmp.ts';
import type { Lab } from '../lab.ts';

/** SCHED_CAPACITY_SCALE: of a CPU that runs as fast as it can. */
const fullScale = 1024n;

/**
 * Has the kernel take a CPU for one that runs at half of its highest frequency, by which PELT's clock goes half as fast. An
 * emulated CPU has no frequency that a kernel could find out: its variable is written by QEMU's stub for debuggers.
 */
export async function halveFrequency(lab: Lab, cpu: number): Promise<void> {
  const symbols = await lab.run("grep -E ' (arch_freq_scale|__per_cpu_offset)$' /proc/kallsyms");
  const address = (name: string) =>
    BigInt(`0x${new RegExp(`^(\\w+) . ${name}$`, 'm').exec(symbols)?.[1]}`);
  // The machine stands still while somebody is connected.
  const stub = await openStub(lab);
  const offset = await readWord(stub, address('__per_cpu_offset') + BigInt(8 * cpu));
  const scale = BigInt.asUintN(64, address('arch_freq_scale') + offset);
  const before = await readWord(stub, scale);
  if (before !== fullScale) throw new Error(`arch_freq_scale: ${before}, wanted ${fullScale}`);
  await ask(stub, `M${scale.toString(16)},8:${hexOf(fullScale / 2n)}`);
  await ask(stub, 'D');
  stub.destroy();
}

async function openStub(lab: Lab): Promise<Socket> {
  const path = `${dirname(lab.qmpSocket)}/gdb.sock`;
  const command = { 'command-line': `gdbserver unix:${path},server=on,wait=off` };
  const limits = { timeoutSeconds: 30, maxBytes: 1 << 20 };
  await askQmp(lab.qmpSocket, 'human-monitor-command', limits, command);
  const stub = connect(path);
  await once(stub, 'connect');
  return stub.setEncoding('latin1');
}

async function readWord(stub: Socket, address: bigint): Promise<bigint> {
  const bytes = await ask(stub, `m${address.toString(16)},8`);
  return Buffer.from(bytes, 'hex').readBigUInt64LE();
}

function hexOf(word: bigint): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(word);
  return bytes.toString('hex');
}

/** @see https://sourceware.org/gdb/current/onlinedocs/gdb.html/Overview.html */
async function ask(stub: Socket, packet: string): Promise<string> {
  const sum = Buffer.from(packet).reduce((total, byte) => (total + byte) & 255, 0);
  stub.write(`$${packet}#${sum.toString(16).padStart(2, '0')}`);
  let text = '';
  for (;;) {
    text += String((await once(stub, 'data'))[0]);
    const answer = /\$([^#]*)#../.exec(text)?.[1];
    if (answer === undefined) continue;
    stub.write('+');
    if (answer.startsWith('E') || answer === '')
      throw new Error(`QEMU's stub: ${packet}: ${answer}`);
    return answer;
  }
}
