import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { eventually } from './scene.ts';

/** A disk of the kernel's module scsi_debug, in memory: it fails, is busy and is slow as it is told to. */
export type ScsiDisk = {
  /** Such as `sda`. */
  readonly name: string;
  /** Parameters of the module that may change: `opts`, `every_nth`, `delay`, `ndelay`. */
  readonly set: (values: Readonly<Record<string, number>>) => void;
  /** Reads that have ended, and their bytes, by `/sys/block/…/stat`. */
  readonly reads: () => { operations: number; bytes: number };
  /** Commands that were sent, and those that ended in an error, by SCSI's own counts. */
  readonly commands: () => { sent: number; errors: number };
};

const driver = '/sys/bus/pseudo/drivers/scsi_debug';

/** Loads the module: for machines of a test's own. The first sector that cannot be read (`opts` 2), and how many. */
export async function loadScsiDisk(unreadable: { from: number; count: number }): Promise<ScsiDisk> {
  const { from, count } = unreadable;
  execFileSync('modprobe', ['sd_mod']);
  execFileSync('modprobe', [
    'scsi_debug',
    ...['dev_size_mb=8', 'delay=0', `medium_error_start=${from}`, `medium_error_count=${count}`],
  ]);
  const find = `ls -d ${driver}/adapter0/host*/target*/*/block/* 2>/dev/null || true`;
  const name = await eventually('a disk of scsi_debug', 20, () => {
    const found = basename(execFileSync('sh', ['-c', find], { encoding: 'utf8' }).trim());
    return found !== '' && readdirSync('/dev').includes(found) ? found : null;
  });
  const ofDevice = (file: string) =>
    Number(readFileSync(`/sys/block/${name}/device/${file}`, 'utf8'));
  return {
    name,
    set: values => {
      for (const [parameter, value] of Object.entries(values))
        writeFileSync(`${driver}/${parameter}`, `${value}`);
    },
    reads: () => {
      const stat = readFileSync(`/sys/block/${name}/stat`, 'utf8').trim().split(/\s+/);
      return { operations: Number(stat[0]), bytes: Number(stat[2]) * 512 };
    },
    commands: () => ({ sent: ofDevice('iorequest_cnt'), errors: ofDevice('ioerr_cnt') }),
  };
}
