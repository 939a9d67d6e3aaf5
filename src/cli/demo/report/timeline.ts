/** Lateness over time: the samples in their order, gathered into spans of a tenth of a second. */
export type Span = {
  readonly phase: string;
  readonly fromSeconds: number;
  readonly toSeconds: number;
  readonly medianSeconds: number;
  readonly maxSeconds: number;
};

const spanSeconds = 0.1;

/**
 * Reads the workload's raw file (`phase`, tab, lateness in µs). Each sample took a period, its lateness and the burn, which
 * gives the time back that the file does not hold. Lines that are malformed are left out.
 */
export function timelineOf(raw: string, cycleSeconds: number): Span[] {
  const spans: Span[] = [];
  let open: { phase: string; from: number; late: number[] } | null = null;
  let now = 0;
  for (const line of raw.split('\n')) {
    const [phase, micros] = line.split('\t');
    const late = Number(micros) / 1e6;
    if (phase === undefined || micros === undefined || !Number.isFinite(late)) continue;
    if (open !== null && (open.phase !== phase || now - open.from >= spanSeconds)) {
      spans.push(close(open, now));
      open = null;
    }
    open ??= { phase, from: now, late: [] };
    open.late.push(late);
    now += cycleSeconds + late;
  }
  if (open !== null) spans.push(close(open, now));
  return spans;
}

function close(open: { phase: string; from: number; late: number[] }, toSeconds: number): Span {
  const sorted = [...open.late].sort((a, b) => a - b);
  return {
    phase: open.phase,
    fromSeconds: open.from,
    toSeconds,
    medianSeconds: sorted[Math.floor(sorted.length / 2)] ?? 0,
    maxSeconds: sorted.at(-1) ?? 0,
  };
}
