import { spawnSync } from 'node:child_process';
import test from 'ava';
import { checkout } from './support/qemu.ts';

/** Kernels that what should hold on each is tried on: all of them with `npm run test:long`, else Debian's stable one. */
export const labKernels = process.env['SCULPTOR_LONG'] === '1' ? ['6.1', '6.12'] : ['6.1'];

/** `test.serial`, or `test.skip` with the reason printed, where the lab cannot be had. */
export function needsLab(kernel = '6.1'): typeof test.serial {
  const built = spawnSync('sh', [`${checkout}/scripts/build-lab.sh`, kernel], { encoding: 'utf8' });
  if (built.status === 0) return test.serial;
  if (built.status !== 3) throw new Error(`build-lab.sh ${kernel}: ${built.stderr}`);
  console.error(`# skipped: ${built.stderr.trim().split('\n').at(-1)}`);
  return test.skip as unknown as typeof test.serial;
}
