import type { Cancel, Clock } from '../../contract/ports.ts';

/** Pauses of what a source does beside its readings; none outlasts the source. */
export type Pauses = {
  /** Never ends where it is stopped meanwhile. */
  readonly pause: (seconds: number) => Promise<void>;
  readonly stop: () => void;
};

export function createPauses(clock: Pick<Clock, 'after'>): Pauses {
  const waits = new Set<Cancel>();
  return {
    pause: seconds =>
      new Promise(resolve => {
        const cancel = clock.after(seconds, () => {
          waits.delete(cancel);
          resolve();
        });
        waits.add(cancel);
      }),
    stop: () => {
      for (const cancel of waits) cancel();
    },
  };
}
