import {
  listFolder,
  readDeviceNumber,
  readInode,
  readLink,
  readNumber,
  readText,
} from './read-file.ts';
import type { Roots } from './roots.ts';

/** An interface through which a process carries frames itself. */
export type Tap = {
  readonly name: string;
  /**
   * Whose end its counters are of. What the host sends on a tap its holder receives; a macvtap is the holder's own end, which
   * the host reaches by the device below it.
   */
  readonly countersOf: 'host' | 'holder';
  /** In which network namespace it is: ours, that of its holder, which is another, or a third one, where nobody here can look. */
  readonly place: 'ours' | 'holder' | 'third';
};

/** Counters of one tap as who holds it sees them. */
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
 * The taps and macvtaps that a process holds open, whoever opened them; a queue each is one of them. Null where its
 * descriptors may not be read: CAP_SYS_PTRACE is wanted for those of another user (and see `mayAskDevices`). Its command line is not asked: anybody
 * may write one.
 */
export function readTaps(roots: Roots, tgid: number): Tap[] | null {
  const descriptors = listFolder(`${roots.proc}/${tgid}/fdinfo`).slice(0, mostDescriptors);
  if (descriptors.length === 0) return null;
  const isElsewhere = namespaceOf(roots, tgid) !== namespaceOf(roots, 'self');
  const taps = descriptors.flatMap((descriptor): Tap[] => {
    const name = tapOf(roots, tgid, descriptor);
    if (name !== null)
      return [{ name, countersOf: 'host', place: isElsewhere ? 'holder' : 'ours' }];
    const macvtap = macvtapOf(roots, tgid, descriptor);
    if (macvtap === null) return [];
    const otherwise = isElsewhere ? 'holder' : 'third';
    const place = macvtap.isOurs ? 'ours' : otherwise;
    return [{ name: macvtap.name, countersOf: 'holder', place }];
  });
  return [...new Map(taps.map(tap => [tap.name, tap])).values()];
}

/** Whether there is a macvtap in our network namespace; `sys`: where sysfs is. */
export function hasMacvtaps(sys: string): boolean {
  return listFolder(`${sys}/class/macvtap`).length > 0;
}

/**
 * Whether what a process holds open can be asked for its device, which alone tells a macvtap. The folder of that, unlike the one
 * that tells a tap, is its owner's alone: of another user it takes CAP_DAC_READ_SEARCH beside CAP_SYS_PTRACE.
 */
export function mayAskDevices(roots: Roots, tgid: number): boolean {
  return listFolder(`${roots.proc}/${tgid}/fd`).length > 0;
}

function namespaceOf(roots: Roots, process: number | 'self'): number | null {
  return readInode(`${roots.proc}/${process}/ns/net`);
}

/** Descriptors of /dev/net/tun say it themselves. */
function tapOf(roots: Roots, tgid: number, descriptor: string): string | null {
  const info = readText(`${roots.proc}/${tgid}/fdinfo/${descriptor}`) ?? '';
  const name = /^iff:\s*(\S+)$/m.exec(info)?.[1];
  return name !== undefined && interfaceName.test(name) ? name : null;
}

/**
 * A macvtap has a device of its own, /dev/tapN: its number tells the interface, in whatever namespace that is. Only what is
 * called so is asked for its number, since to ask a file on a server that is gone would wait for it.
 */
function macvtapOf(
  roots: Roots,
  tgid: number,
  descriptor: string,
): { name: string; isOurs: boolean } | null {
  const path = `${roots.proc}/${tgid}/fd/${descriptor}`;
  if (!/(^|\/)tap\d+( \(deleted\))?$/.test(readLink(path) ?? '')) return null;
  const number = readDeviceNumber(path);
  if (number === null) return null;
  const device = `${roots.sys}/dev/char/${number}`;
  const name = /\/net\/([^/]+)\/(?:macvtap|ipvtap)\/tap\d+$/.exec(readLink(device) ?? '')?.[1];
  if (name === undefined || !interfaceName.test(name)) return null;
  return { name, isOurs: readText(`${device}/dev`) === number };
}

/** Counters of taps by name; one that has gone is left out. */
export function readTapCounters(
  roots: Roots,
  tgid: number,
  taps: readonly Tap[],
): Map<string, TapCounters> {
  const found = new Map<string, TapCounters>();
  const theirs = taps.some(({ place }) => place === 'holder')
    ? readDeviceCounters(roots, tgid)
    : new Map<string, TapCounters>();
  for (const { name, countersOf, place } of taps) {
    if (place === 'third') continue;
    const counters = place === 'holder' ? theirs.get(name) : readStatistics(roots, name);
    if (counters) found.set(name, countersOf === 'host' ? turned(counters) : counters);
  }
  return found;
}

/** Of the other end. */
function turned(counters: TapCounters): TapCounters {
  return {
    receivedBytes: counters.sentBytes,
    sentBytes: counters.receivedBytes,
    receivedPackets: counters.sentPackets,
    sentPackets: counters.receivedPackets,
    receivedDropped: counters.sentDropped,
    sentDropped: counters.receivedDropped,
  };
}

function readStatistics(roots: Roots, name: string): TapCounters | null {
  const of = (counter: string): number | null =>
    readNumber(`${roots.sys}/class/net/${name}/statistics/${counter}`);
  const counters = {
    receivedBytes: of('rx_bytes'),
    sentBytes: of('tx_bytes'),
    receivedPackets: of('rx_packets'),
    sentPackets: of('tx_packets'),
    receivedDropped: of('rx_dropped'),
    sentDropped: of('tx_dropped'),
  };
  return isWhole(counters) ? counters : null;
}

function isWhole(
  counters: {
    [Key in keyof TapCounters]: number | null;
  },
): counters is TapCounters {
  return Object.values(counters).every(counter => counter !== null);
}

/** From /proc/TGID/net/dev, which tells the namespace of the process. */
function readDeviceCounters(roots: Roots, tgid: number): Map<string, TapCounters> {
  const found = new Map<string, TapCounters>();
  for (const line of (readText(`${roots.proc}/${tgid}/net/dev`) ?? '').split('\n')) {
    const [, name, fields] = /^\s*([^:\s]+):\s*(.*)$/.exec(line) ?? [];
    if (name === undefined || fields === undefined) continue;
    // Eight of what it received, then eight of what it sent: bytes packets errs drop …
    const all = fields.split(/\s+/).map(Number);
    const at = (index: number): number => all[index] ?? 0;
    found.set(name, {
      receivedBytes: at(0),
      sentBytes: at(8),
      receivedPackets: at(1),
      sentPackets: at(9),
      receivedDropped: at(3),
      sentDropped: at(11),
    });
  }
  return found;
}
