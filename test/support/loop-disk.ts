import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

/** A block device of the test's own, over a file; nobody else uses it. */
export type LoopDisk = {
  /** Such as `/dev/loop3`. */
  readonly path: string;
  /** Such as `loop3`. */
  readonly name: string;
  readonly end: () => void;
};

const loopMajor = 7;

/** As the kernel has it within itself. */
export const deviceOf = ({ name }: LoopDisk): number =>
  loopMajor * 2 ** 20 + Number(name.slice('loop'.length));

/** `scheduler`: `none` issues requests at once, `mq-deadline` queues them first. */
export function makeLoopDisk(mb: number, scheduler: 'none' | 'mq-deadline'): LoopDisk {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-disk-'));
  writeFileSync(`${folder}/disk`, '');
  truncateSync(`${folder}/disk`, mb << 20);
  const losetup = (...args: string[]) => execFileSync('losetup', args, { encoding: 'utf8' }).trim();
  const path = losetup('--find', '--show', `${folder}/disk`);
  const name = basename(path);
  const end = (): void => {
    losetup('--detach', path);
    rmSync(folder, { recursive: true });
  };
  try {
    writeFileSync(`/sys/block/${name}/queue/scheduler`, scheduler);
  } catch (error) {
    end();
    throw error;
  }
  return { path, name, end };
}
