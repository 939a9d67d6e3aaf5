import { listFolder, readInode, readNumber, readText } from './read-file.ts';
import type { Roots } from './roots.ts';

/** Interfaces through which a process carries packets itself, and where they are. */
export type Taps = {
  readonly names: readonly string[];
  /** They are in another network namespace than ours: `/sys/class/net` does not show them. */
  readonly elsewhere: boolean;
};

/** Counters of one tap as who holds it sees them, so the other way round than the host's. */
export type TapCounters = {
  readonly receivedBytes: number;
  readonly sentBytes: number;
  readonly receivedPackets: number;
  readonly sentPackets: number;
  /** Were dropped on their way in, since they were not taken out fast enough, and on their way out. */
  readonly receivedDropped: number;
  readonly sentDropped: number;
};

/** Descriptors of a process that are looked at: QEMU has some 50, and a few for each device and queue. */
const mostDescriptors = 2048;

/** What the kernel takes for a name: it becomes part of a path. */
const interfaceName = /^(?!\.{1,2}$)[^/\s]{1,15}$/;

/**
 * The taps that a process holds open, whoever opened them; a queue each is one tap. Null where its descriptors may not be
 * read: CAP_SYS_PTRACE is wanted for those of another user. Its command line is not asked: anybody may write one.
 */
export function readTaps(roots: Roots, tgid: number): Taps | null {
  const folder = `${roots.proc}/${tgid}/fdinfo`;
  const descriptors = listFolder(folder).slice(0, mostDescriptors);
  if (descriptors.length === 0) return null;
  const names = new Set<string>();
  for (const descriptor of descriptors) {
    const name = /^iff:\s*(\S+)$/m.exec(readText(`${folder}/${descriptor}`) ?? '')?.[1];
    if (name !== undefined && interfaceName.test(name)) names.add(name);
  }
  const ours = namespaceOf(roots, 'self');
  const theirs = names.size > 0 ? namespaceOf(roots, tgid) : ours;
  return { names: [...names], elsewhere: theirs !== ours };
}

function namespaceOf(roots: Roots, process: number | 'self'): number | null {
  return readInode(`${roots.proc}/${process}/ns/net`);
}

/** Counters of taps by name; one that has gone is left out. */
export function readTapCounters(
  roots: Roots,
  tgid: number,
  { names, elsewhere }: Taps,
): Map<string, TapCounters> {
  if (elsewhere) return readElsewhere(roots, tgid, new Set(names));
  const found = new Map<string, TapCounters>();
  for (const name of names) {
    const of = (counter: string): number | null =>
      readNumber(`${roots.sys}/class/net/${name}/statistics/${counter}`);
    const counters = {
      receivedBytes: of('tx_bytes'),
      sentBytes: of('rx_bytes'),
      receivedPackets: of('tx_packets'),
      sentPackets: of('rx_packets'),
      receivedDropped: of('tx_dropped'),
      sentDropped: of('rx_dropped'),
    };
    if (isWhole(counters)) found.set(name, counters);
  }
  return found;
}

function isWhole(
  counters: {
    [Key in keyof TapCounters]: number | null;
  },
): counters is TapCounters {
  return Object.values(counters).every(counter => counter !== null);
}

/** From /proc/TGID/net/dev, which tells the namespace of the process. */
function readElsewhere(
  roots: Roots,
  tgid: number,
  wanted: ReadonlySet<string>,
): Map<string, TapCounters> {
  const found = new Map<string, TapCounters>();
  for (const line of (readText(`${roots.proc}/${tgid}/net/dev`) ?? '').split('\n')) {
    const [, name, fields] = /^\s*([^:\s]+):\s*(.*)$/.exec(line) ?? [];
    if (name === undefined || fields === undefined || !wanted.has(name)) continue;
    // Eight of what the host received, then eight of what it sent: bytes packets errs drop …
    const host = fields.split(/\s+/).map(Number);
    const at = (index: number): number => host[index] ?? 0;
    found.set(name, {
      receivedBytes: at(8),
      sentBytes: at(0),
      receivedPackets: at(9),
      sentPackets: at(1),
      receivedDropped: at(11),
      sentDropped: at(3),
    });
  }
  return found;
}
