import { close, constants, fstatSync, openSync, write } from 'node:fs';
import { promisify } from 'node:util';
import { ConfigError, describeError } from '../../contract/errors.ts';
import type { Clock, Say } from '../../contract/ports.ts';
import type { Profile } from '../../contract/profile.ts';

/** Why profiles were not written: the ones before still are; the disk is full, the reader is gone, and whatever else refuses. */
export type ProfileLoss = 'busy' | 'failed';

/** JSON lines that go somewhere. What cannot be written is counted and said, and holds up nothing. */
export type ProfileSink = {
  /** Takes one reading's profiles; what was taken before is written first. */
  readonly write: (profiles: readonly Profile[]) => void;
  readonly written: () => number;
  readonly lost: () => Readonly<Record<ProfileLoss, number>>;
  /** Waits a moment for what is being written. */
  readonly stop: () => Promise<void>;
};

const [writeBytes, closeFile] = [promisify(write), promisify(close)];

/** The descriptor of this process. */
const stdout = 1;

/** A pipe that takes nothing is tried again so soon, and for so long. */
const waitSeconds = 0.05;
const patienceSeconds = 5;

/**
 * Opens a file to append to, made when it is not there, or standard output for `-`. Never blocks: of a pipe that is full
 * (of `-` in a description of its own, so that others who write there are not affected) it is waited for. Where standard output is
 * a socket, as under systemd, it is written to as it is: a socket cannot be opened again. Only the write itself may wait there.
 * @throws ConfigError CONFIG_OUTPUT
 */
export function openProfileSink(target: string, clock: Clock, say: Say): ProfileSink {
  const file = open(target);
  const lost = { busy: 0, failed: 0 };
  let written = 0;
  let failures = 0;
  let torn = false;
  let stopping = false;
  let underWay: Promise<void> | null = null;

  const deliver = async (lines: readonly string[]): Promise<void> => {
    // After a line that was cut off, the next begins on a line of its own.
    const bytes = Buffer.from(`${torn ? '\n' : ''}${lines.join('\n')}\n`);
    let at = 0;
    try {
      let patience = patienceSeconds;
      while (at < bytes.length) {
        const count = await writeSome(file, bytes, at);
        at += count;
        if (count > 0) continue;
        if (stopping || patience <= 0) throw new Error('nobody reads');
        patience -= waitSeconds;
        await new Promise<void>(resolve => void clock.after(waitSeconds, resolve));
      }
      written += lines.length;
      torn = false;
      failures = 0;
    } catch (error) {
      const whole = bytes.subarray(torn ? 1 : 0, at).filter(byte => byte === 0x0a).length;
      written += whole;
      lost.failed += lines.length - whole;
      if (at > 0) torn = bytes[at - 1] !== 0x0a;
      failures += 1;
      // Said now and then, not with each reading.
      if (failures % 50 === 1)
        say(
          'error',
          `agent: profiles cannot be written to ${target} (${lost.failed} lost so far): ${describeError(error)}`,
        );
    }
    underWay = null;
  };

  return {
    write: profiles => {
      if (profiles.length === 0) return;
      if (underWay) lost.busy += profiles.length;
      else underWay = deliver(profiles.map(profile => JSON.stringify(profile)));
    },
    written: () => written,
    lost: () => ({ ...lost }),
    stop: async () => {
      stopping = true;
      await underWay;
      if (file !== stdout) await closeFile(file);
    },
  };
}

function open(target: string): number {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NONBLOCK } = constants;
  const flags = O_WRONLY | O_APPEND | O_NONBLOCK;
  try {
    if (target === '-')
      return fstatSync(stdout).isSocket() ? stdout : openSync(`/proc/self/fd/${stdout}`, flags);
    return openSync(target, flags | O_CREAT, 0o640);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === 'ENXIO' ? 'a socket, or a pipe that nobody reads' : code;
    throw new ConfigError(
      'CONFIG_OUTPUT',
      `--profile-to ${target}: wanted a file that can be appended to, got ${why}`,
      { target },
      cause,
    );
  }
}

/** How many bytes were taken; 0 where the reader of a pipe is not ready. */
async function writeSome(file: number, bytes: Buffer, at: number): Promise<number> {
  try {
    return (await writeBytes(file, bytes, at)).bytesWritten;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  }
}
