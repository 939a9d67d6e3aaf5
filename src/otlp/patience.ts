import { grpcStatus } from './grpc-status.ts';

/** How long an answer is waited for, by how long the other end has taken. */
export type Patience = {
  readonly seconds: () => number;
  /** How a call ended, and after how long. */
  readonly learn: (status: number, tookSeconds: number) => void;
};

/** The longest: who is silent for so long is taken for gone, however slow it was. */
const mostSeconds = 60;

/** What an answer in time leaves of it. Little goes with each: large requests, which take longest, come once in ten small ones. */
const kept = 0.99;

/**
 * An answer that comes too late each time would mean that nothing is ever told: not of a collector behind a slow backend, and not by
 * a host so busy that this is when somebody wants to know. So each call that got none in its time makes the next one's longer.
 */
export function createPatience(leastSeconds: number): Patience {
  let seconds = leastSeconds;
  return {
    seconds: () => seconds,
    learn: (status, tookSeconds) => {
      const wanted = Math.min(mostSeconds, 2 * tookSeconds);
      if (status === grpcStatus.DEADLINE_EXCEEDED) seconds = Math.max(seconds, wanted);
      else if (status === grpcStatus.OK) seconds = Math.max(leastSeconds, wanted, kept * seconds);
    },
  };
}
