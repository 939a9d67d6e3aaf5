import { describeError } from '../../../src/contract/errors.ts';
import { askQmp } from '../../../src/linux/qmp.ts';

const limits = { timeoutSeconds: 5, maxBytes: 1_048_576 };

/** What QEMU's monitor says of the registers and the APIC of each CPU, or why it says nothing: a machine that hangs may have lost an interrupt. */
export async function describeCpus(monitor: string): Promise<string> {
  const ask = async (command: string): Promise<string> =>
    String(
      await askQmp(monitor, 'human-monitor-command', limits, { 'command-line': command }),
    ).replaceAll('\r', '');
  try {
    const told = [await ask('info registers -a')];
    for (const [, index] of told.join().matchAll(/^CPU#(\d+)/gm))
      told.push(await ask(`info lapic ${index}`));
    return told.join('\n');
  } catch (error) {
    return describeError(error);
  }
}
