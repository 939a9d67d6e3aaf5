/** The known word that differs by at most a third of its letters; null when none is near. */
export function nearestOf(word: string, known: readonly string[]): string | null {
  const [best] = known
    // Words differ by their lengths at least: of one that anybody may have sent most need no closer look.
    .filter(name => Math.abs(word.length - name.length) <= mostApart(name))
    .map(name => ({ name, distance: editDistance(word.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  return best && best.distance <= mostApart(best.name) ? best.name : null;
}

function mostApart(name: string): number {
  return Math.max(2, name.length / 3);
}

/** Levenshtein's distance by rows. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
