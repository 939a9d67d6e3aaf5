import { readText } from './read-file.ts';
import type { Roots } from './roots.ts';

const minorBits = 20;

/** `major:minor` of a device number as the kernel has it within itself (not as stat(2) tells it). */
export function deviceNumbers(device: number): string {
  return `${Math.floor(device / 2 ** minorBits)}:${device % 2 ** minorBits}`;
}

/** The name of a block device, such as `vda`; null when it is not there (any more). */
export function readDiskName(roots: Roots, device: number): string | null {
  const event = readText(`${roots.sys}/dev/block/${deviceNumbers(device)}/uevent`);
  return /^DEVNAME=(.+)$/m.exec(event ?? '')?.[1] ?? null;
}
