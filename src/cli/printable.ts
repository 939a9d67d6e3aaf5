/**
 * A text without what a terminal would obey: names of cgroups, tasks and machines are whatever their owners wrote. Lines stay lines;
 * every other control character is written as in JSON, which stays what it is.
 */
export function printable(text: string): string {
  return text.replaceAll(
    /[^\P{Cc}\n]/gu,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
