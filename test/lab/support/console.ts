import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

export type Console = {
  /** The last lines, oldest first. */
  readonly tail: (lines?: number) => string[];
  /** All that are kept. */
  readonly all: () => readonly string[];
  /** Waits for a line; the match. Rejects after `timeoutSeconds`. */
  readonly waitFor: (pattern: RegExp, timeoutSeconds: number) => Promise<RegExpExecArray>;
};

const kept = 2000;

/** Follows what a machine prints: its last lines are kept. */
export function followConsole(...streams: Readable[]): Console {
  const lines: string[] = [];
  let open = streams.length;
  for (const stream of streams) {
    let text = '';
    stream.once('close', () => {
      if (text !== '') lines.push(text);
      open -= 1;
    });
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      const whole = (text + chunk).split(/\r*\n/);
      text = whole.pop() ?? '';
      lines.push(...whole);
      if (lines.length > kept) lines.splice(0, lines.length - kept);
    });
  }
  const find = (pattern: RegExp): RegExpExecArray | undefined => {
    for (const line of lines) {
      const match = pattern.exec(line);
      if (match) return match;
    }
    return undefined;
  };
  return {
    tail: (count = 30) => lines.slice(-count),
    all: () => lines,
    waitFor: async (pattern, timeoutSeconds) => {
      const until = performance.now() + timeoutSeconds * 1000;
      for (let found = find(pattern); ; found = find(pattern)) {
        if (found) return found;
        if (open === 0) throw new Error(`console: ended without a line ${pattern}`);
        if (performance.now() > until)
          throw new Error(`console: no line ${pattern} within ${timeoutSeconds} s`);
        await sleep(50);
      }
    },
  };
}
