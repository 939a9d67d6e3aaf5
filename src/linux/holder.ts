import { type CgroupLayout, listCgroupProcesses } from './cgroups.ts';
import { readProcessMemory } from './procfs.ts';
import type { Roots } from './roots.ts';

/** In a threaded cgroup threads. One look takes some 4 ms for so many, and holds up everything else meanwhile. */
const processesLookedAt = 128;
const leastShare = 0.9;
/** A minute of one of few kdamonds is worth more than to know what of this lies idle. */
const leastBytes = 16 << 20;

/**
 * The process that has in memory nearly all that the processes of these cgroups have. None does where it is spread over several, or
 * there are too many to look at all of them; where they have less than 16 MiB together; and where /proc shows none of them
 * (`hidepid`). Pages that they share count for each.
 */
export function findHolder(
  roots: Roots,
  layout: CgroupLayout,
  members: Iterable<string>,
): number | 'spread' | 'too_small' | 'hidden' {
  const ids = [...members].flatMap(member => listCgroupProcesses(layout, member));
  if (ids.length > processesLookedAt) return 'spread';
  const shown = ids.flatMap(id => readProcessMemory(roots, id) ?? []);
  if (ids.length > 0 && shown.length === 0) return 'hidden';
  // In a threaded cgroup they are threads. The kernel's have no memory.
  const bytesOf = new Map(shown.map(({ tgid, residentBytes }) => [tgid, residentBytes ?? 0]));
  const all = [...bytesOf.values()].reduce((sum, bytes) => sum + bytes, 0);
  if (all < leastBytes) return 'too_small';
  const found = [...bytesOf].find(([, bytes]) => bytes >= leastShare * all);
  return found?.[0] ?? 'spread';
}
