import * as z from 'zod';

/** What a program is to print every so often, so that it is known to have attached. */
export const beat = 'printf("");';

/** A bucket of hist() or lhist(): integers from `min` to `max`, both in it. Without one of them it is open on that side. */
const bucketSchema = z.object({
  min: z.number().optional(),
  max: z.number().optional(),
  count: z.number(),
});
const histogramSchema = z.array(bucketSchema);
const statsSchema = z.object({ count: z.number(), average: z.number(), total: z.number() });

export type Bucket = z.infer<typeof bucketSchema>;

/** What a map holds under one key: a number, buckets of a histogram, or what nothing here can use (text, a tuple). */
export type MapValue = number | readonly Bucket[] | z.infer<typeof statsSchema> | null;

/** One line of `bpftrace -f json`. */
export type BpftraceRecord =
  /** The program is compiled, and about to be attached. */
  | { readonly type: 'attaching' }
  /** An empty `printf("")`, as we append it: all is attached, since bpftrace prints nothing before. */
  | { readonly type: 'beat' }
  /** A map as it was printed; the key is null where the map has none, and has its parts joined by commas. */
  | {
      readonly type: 'map';
      readonly name: string;
      readonly entries: readonly (readonly [key: string | null, value: MapValue])[];
    }
  /** Events that bpftrace could not take in time. */
  | { readonly type: 'lost'; readonly events: number }
  /** A BPF helper failed, such as for a map that is full (`-k` asks for it). */
  | { readonly type: 'helper'; readonly helper: string; readonly errno: number }
  /** What the script printed by itself: of printf a character for each byte, of all else nothing. */
  | { readonly type: 'text'; readonly text: string };

const valueSchema = z.union([z.number(), histogramSchema, statsSchema]).nullable().catch(null);

const lineSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('attached_probes') }),
  z.object({
    type: z.enum(['map', 'hist', 'stats']),
    data: z.record(z.string().startsWith('@'), z.unknown()),
  }),
  z.object({ type: z.literal('lost_events'), data: z.object({ events: z.number() }) }),
  z.object({ type: z.literal('helper_error'), helper: z.string(), retcode: z.number() }),
  z.object({ type: z.literal('printf'), data: z.string() }),
  z.object({ type: z.enum(['cat', 'join', 'time', 'value', 'syscall', 'strftime']) }),
]);

/**
 * Reads one line; null when it is none of bpftrace's. `line` has a character for each byte (latin1): text in maps may be any
 * bytes, and comes out decoded as UTF-8, what is none of it as U+FFFD. Two keys that bpftrace writes alike stay one, the later.
 */
export function parseLine(line: string): BpftraceRecord | null {
  const parsed = lineSchema.safeParse(parseJson(mendBytes(line)));
  if (!parsed.success) return null;
  const { data: record } = parsed;
  switch (record.type) {
    case 'attached_probes':
      return { type: 'attaching' };
    case 'printf':
      return record.data === '' ? { type: 'beat' } : { type: 'text', text: record.data };
    case 'lost_events':
      return { type: 'lost', events: record.data.events };
    case 'helper_error':
      return { type: 'helper', helper: record.helper, errno: -record.retcode };
    case 'map':
    case 'hist':
    case 'stats': {
      const [only] = Object.entries(record.data);
      if (only === undefined) return null;
      return { type: 'map', name: only[0].slice(1), entries: entriesOf(only[1], record.type) };
    }
    default:
      return { type: 'text', text: '' };
  }
}

function entriesOf(
  data: unknown,
  type: 'map' | 'hist' | 'stats',
): readonly (readonly [string | null, MapValue])[] {
  const keyed = typeof data === 'object' && data !== null && !Array.isArray(data);
  // The value of a stats() without keys is an object as well.
  if (!keyed || (type === 'stats' && statsSchema.safeParse(data).success))
    return [[null, valueSchema.parse(data)]];
  return Object.entries(data).map(([key, value]) => [decode(key), valueSchema.parse(value)]);
}

/** 0.17 writes a byte above 127 as `\uffffffXX`: it extends the sign of a char. Escaped backslashes are stepped over. */
function mendBytes(line: string): string {
  return line.includes('\\uffffff')
    ? line.replaceAll(/\\\\|\\uffffff([0-9a-f]{2})/g, (all, byte) => (byte ? `\\u00${byte}` : all))
    : line;
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // Not JSON: the schema refuses it, and it is counted.
    return undefined;
  }
}

function decode(key: string): string {
  return Buffer.from(key, 'latin1').toString('utf8');
}
