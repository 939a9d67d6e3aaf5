import type { Socket } from 'node:net';
import type { Clock } from '../../contract/ports.ts';
import { createBudget } from './budget.ts';

/** What comes from a guest over all its connections, whatever it is: frames of HTTP/2 that are of no request cost time too. */
export type Wire = {
  /** Takes what came over a connection since the last time off what may come; to be called when it has ended, too. */
  readonly hear: (connection: Socket) => void;
  /** Whether more came than may. */
  readonly floods: () => boolean;
};

/** So many bytes in a second, and `besides` them so many that are under way; what was more must be made up for. */
export function createWire(bytesPerSecond: number, besides: number, clock: Clock): Wire {
  const budget = createBudget(bytesPerSecond, clock);
  const heard = new WeakMap<Socket, number>();
  return {
    hear: connection => {
      const { bytesRead } = connection;
      budget.spend(bytesRead - (heard.get(connection) ?? 0));
      heard.set(connection, bytesRead);
    },
    floods: () => budget.waitSeconds() * bytesPerSecond > besides,
  };
}
