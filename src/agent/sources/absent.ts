/** So many answers without a name in them, and what it named is gone. */
const answersUntilGone = 3;

/**
 * Takes who was named in one more answer, and lets go of those that were absent from some in a row. One that is named again
 * before that goes on; one that comes back later is new.
 */
export function dropAbsent(
  known: Map<string, { absent: number }>,
  present: ReadonlySet<string>,
): void {
  for (const [name, one] of known) {
    one.absent = present.has(name) ? 0 : one.absent + 1;
    if (one.absent >= answersUntilGone) known.delete(name);
  }
}
