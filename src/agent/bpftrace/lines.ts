export type LineLimits = {
  /** A longer line is dropped to its end. */
  readonly maxLineBytes: number;
  /** Bytes that may be taken in a second; past them the source is to pause until the next. */
  readonly maxBytesPerSecond: number;
};

export type LineReader = {
  /** Takes a chunk (each byte a character); answers false when no more is to be sent in this second. */
  readonly take: (chunk: Buffer) => boolean;
  /** A second has passed; answers whether more may be sent in the next: a chunk may have been more than one may take. */
  readonly nextSecond: () => boolean;
  /** Seconds in which more came than may. */
  readonly fullSeconds: () => number;
  /** Lines that were too long. */
  readonly tooLong: () => number;
};

/**
 * Cuts a stream into lines; blank ones are left out. It holds one line and never more. Nothing is dropped for its rate: the
 * writer is held up instead, and counts what it could not write.
 */
export function createLineReader(limits: LineLimits, line: (text: string) => void): LineReader {
  let parts: string[] = [];
  let held = 0;
  let skipping = false;
  let tooLong = 0;
  let taken = 0;
  let fullSeconds = 0;

  const hold = (text: string): void => {
    if (skipping || text.length === 0) return;
    held += text.length;
    if (held <= limits.maxLineBytes) {
      parts.push(text);
      return;
    }
    parts = [];
    skipping = true;
    tooLong += 1;
  };
  const end = (): void => {
    const text = parts.join('');
    if (!skipping && text.trim() !== '') line(text);
    parts = [];
    held = 0;
    skipping = false;
  };

  return {
    take: chunk => {
      const text = chunk.toString('latin1');
      let from = 0;
      for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', from)) {
        hold(text.slice(from, at));
        end();
        from = at + 1;
      }
      hold(text.slice(from));
      const before = taken;
      taken += chunk.length;
      const full = taken >= limits.maxBytesPerSecond;
      if (full && before < limits.maxBytesPerSecond) fullSeconds += 1;
      return !full;
    },
    nextSecond: () => {
      taken = Math.max(0, taken - limits.maxBytesPerSecond);
      const full = taken >= limits.maxBytesPerSecond;
      if (full) fullSeconds += 1;
      return !full;
    },
    fullSeconds: () => fullSeconds,
    tooLong: () => tooLong,
  };
}
