/** Text made safe to stand in HTML and SVG, in content and in attributes. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return text.replace(/[&<>"']/g, character => entities[character] ?? character);
}

/** An element with attributes; numbers are cut to two decimals, which is finer than a pixel. */
export function element(
  name: string,
  attributes: Readonly<Record<string, string | number>>,
  content = '',
): string {
  const text = Object.entries(attributes)
    .map(([key, value]) => {
      const shown = typeof value === 'number' ? String(Math.round(value * 100) / 100) : value;
      return ` ${key}="${escapeHtml(shown)}"`;
    })
    .join('');
  return `<${name}${text}>${content}</${name}>`;
}

/** SVG text at a place. */
export function label(
  x: number,
  y: number,
  text: string,
  className = 'label',
  anchor = 'start',
): string {
  return element('text', { x, y, class: className, 'text-anchor': anchor }, escapeHtml(text));
}

/** An SVG that scales with the page; `title` is read to those who do not see it. */
export function svg(width: number, height: number, title: string, content: string): string {
  return element(
    'svg',
    { viewBox: `0 0 ${width} ${height}`, role: 'img', xmlns: 'http://www.w3.org/2000/svg' },
    `<title>${escapeHtml(title)}</title>${content}`,
  );
}
