import {
  type BlockEntry,
  type BlockKey,
  type BlockProbe,
  blockWords,
  diskDirections,
} from '../probes/block.ts';
import { latencySlots } from '../probes/latency.ts';
import type { ComesAndGoes } from '../sources/source.ts';
import { type ScriptContext, startCountingScript } from './script.ts';

const irregular = ['merged', 'requeued', 'in_parts', 'failed'] as const;
const lost = ['requests_full', 'unseen', 'unfinished'] as const;

/**
 * Block I/O as bpf/block.bt counts it, in the libbpf probe's shape.
 * @throws KernelInterfaceError KERNEL_MISSING
 */
export function startBlockScript(context: ScriptContext): BlockProbe & ComesAndGoes {
  const script = startCountingScript(context, {
    file: 'bpf/block.bt',
    maps: ['words'],
    others: [...irregular, ...lost],
    tracepoints: [
      ...['insert', 'issue', 'requeue', 'merge', 'complete'].map(
        event => `block:block_rq_${event}`,
      ),
      'block:block_bio_frontmerge',
    ],
  });
  const count = (map: string): number => script.sums(map).get('') ?? 0;
  const counts = <Name extends string>(names: readonly Name[]) =>
    Object.fromEntries(names.map(name => [name, count(name)])) as Record<Name, number>;
  const read = (): BlockEntry[] => decodeBlockWords(script.sums('words'));
  let unseen = 0;
  return {
    read,
    forget: keys => {
      if (keys.length === 0) return [];
      const wanted = new Set(keys.map(keyText));
      const entries = read().filter(({ key }) => wanted.has(keyText(key)));
      script.drop(entries.map(({ key }) => keyText(key)));
      return entries;
    },
    stats: () => {
      const { requests_full, unfinished, unseen: ended } = counts(lost);
      // Those that were not followed end unseen as well, and later: the difference may fall for a while.
      unseen = Math.max(unseen, ended - requests_full);
      const own = { requests_full, unseen, unfinished };
      return { irregular: counts(irregular), lost: { ...script.losses(), ...own } };
    },
    trouble: script.trouble,
    attached: script.attached,
    stop: script.stop,
  };
}

/** What the script's keys have in common of one of ours: the cgroup, and its disk × 4 + the direction. */
function keyText({ cgroupId, device, direction }: BlockKey): string {
  return `${cgroupId},${device * 4 + diskDirections.indexOf(direction)}`;
}

/** Of `@words[cgroup, disk, word]`. */
export function decodeBlockWords(sums: ReadonlyMap<string, number>): BlockEntry[] {
  const entries = new Map<string, BlockEntry>();
  for (const [text, sum] of sums) {
    const [cgroupId = 0, disk = 0, word = 0] = text.split(',').map(Number);
    const entry = entries.get(`${cgroupId},${disk}`) ?? newEntry(cgroupId, disk);
    entries.set(`${cgroupId},${disk}`, entry);
    entry.words[word] = sum;
  }
  for (const { words } of entries.values()) {
    const slots = words.subarray(blockWords.deviceSlots, blockWords.deviceSlots + latencySlots);
    words[blockWords.operations] = slots.reduce((all, slot) => all + slot, 0);
  }
  return [...entries.values()];
}

function newEntry(cgroupId: number, disk: number): BlockEntry {
  // More than 32 bits: no bitwise operators.
  const direction = diskDirections[disk % 4] ?? 'write';
  const key = { cgroupId, device: Math.floor(disk / 4), direction };
  return { key, words: new Float64Array(blockWords.end) };
}
