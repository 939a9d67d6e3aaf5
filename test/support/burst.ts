import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { type CgroupBox, makeCgroupBox } from './cgroup-box.ts';

/** Many cgroups, each with a task that has stopped itself and does something only when it is let go. */
export type Burst = {
  readonly boxes: readonly CgroupBox[];
  /** Lets all tasks go at once; each becomes another program, and ends. Resolves when all have. */
  readonly letGo: () => Promise<void>;
  readonly end: () => Promise<void>;
};

/** Makes them under `parent` (a hierarchy's root); resolves when all tasks have stopped. */
export async function makeBurst(parent: string, count: number): Promise<Burst> {
  const boxes = Array.from({ length: count }, () => makeCgroupBox(parent));
  const children = boxes.map(box => box.spawn('sh', '-c', 'kill -STOP $$; exec true'));
  const ended = children.map(child => new Promise(resolve => child.once('exit', resolve)));
  const stopped = (pid: number | undefined) =>
    /\) T /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  while (!children.every(({ pid }) => stopped(pid))) await pause(100);
  return {
    boxes,
    letGo: async () => {
      for (const child of children) child.kill('SIGCONT');
      await Promise.all(ended);
    },
    end: async () => {
      for (const box of boxes) await box.end();
    },
  };
}
