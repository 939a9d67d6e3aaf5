/** A name that somebody else chose, for a sentence that people read: without what a terminal would obey. */
export function plainName(name: string): string {
  return name.toWellFormed().replaceAll(/\p{Cc}/gu, '\ufffd');
}
