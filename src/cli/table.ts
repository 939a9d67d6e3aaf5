export type Column<Row> = {
  readonly title: string;
  readonly of: (row: Row) => string;
  readonly right?: boolean;
};

/** Rows under titles, columns two spaces apart, as wide as their widest cell; a line each, whatever is in a cell. */
export function formatTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = [
    columns.map(c => c.title),
    ...rows.map(row => columns.map(c => c.of(row).replaceAll('\n', '\ufffd'))),
  ];
  const widths = columns.map((_, i) => Math.max(...cells.map(line => (line[i] ?? '').length)));
  return cells
    .map(line =>
      columns
        .map((column, i) => pad(line[i] ?? '', widths[i] ?? 0, column.right === true))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Names and values, the values in one column. */
export function formatFields(fields: readonly (readonly [string, string])[]): string {
  const width = Math.max(...fields.map(([name]) => name.length));
  return fields.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
}

function pad(text: string, width: number, right: boolean): string {
  return right ? text.padStart(width) : text.padEnd(width);
}

/** Breaks a sentence into lines of at most `width` characters, each behind `indent`. */
export function wrap(text: string, width: number, indent = ''): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].map(each => `${indent}${each}`).join('\n');
}
