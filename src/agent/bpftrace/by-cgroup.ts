/** A task of the root may be scheduled in an autogroup, which has no cgroup: its id reads as 0. */
const [root, autogroup] = [1, 0];

/** So many numbers of each cgroup, of a map whose keys are the cgroup and which of them it is. */
export function wordsByCgroup(
  sums: ReadonlyMap<string, number>,
  width: number,
): Map<number, Float64Array> {
  const byId = new Map<number, Float64Array>();
  for (const [key, sum] of sums) {
    const [id = autogroup, word = width] = key.split(',').map(Number);
    const words = byId.get(id || root) ?? new Float64Array(width);
    byId.set(id || root, words);
    words[word] = (words[word] ?? 0) + sum;
  }
  return byId;
}

/** What a script's keys begin with, of these cgroups. */
export function keysOfCgroups(ids: readonly number[]): string[] {
  return ids.flatMap(id => (id === root ? [root, autogroup] : [id])).map(String);
}

/** What is known of these. */
export function pick<Totals>(
  totals: ReadonlyMap<number, Totals>,
  ids: readonly number[],
): Map<number, Totals> {
  const wanted = new Set(ids);
  return new Map([...totals].filter(([id]) => wanted.has(id)));
}
