import { durationWords } from '../../words.ts';
import type { Phase } from '../result.ts';
import { element, label, svg } from './markup.ts';
import type { Span } from './timeline.ts';

const width = 720;
/** Logarithmic axis of lateness, in seconds. */
const least = 50e-6;
const most = 50e-3;
const ticks = [100e-6, 1e-3, 10e-3];

function logarithmic(from: number, to: number): (seconds: number) => number {
  return seconds => {
    const bounded = Math.min(most, Math.max(least, seconds));
    return from + (Math.log(bounded / least) / Math.log(most / least)) * (to - from);
  };
}

/** Every wake-up in order: the median and the worst of each tenth of a second, phases as bands. */
export function timelinePlot(spans: readonly Span[]): string {
  const [left, right, top, bottom, height] = [64, width - 8, 28, 250, 282];
  const end = spans.at(-1)?.toSeconds ?? 1;
  const x = (seconds: number) => left + (seconds / end) * (right - left);
  const y = logarithmic(bottom, top);
  const bands = bandsOf(spans).map(({ phase, from, to }) =>
    phase === 'between'
      ? ''
      : element('rect', {
          x: x(from),
          y: top,
          width: x(to) - x(from),
          height: bottom - top,
          class: `band ${phase}`,
        }) + label((x(from) + x(to)) / 2, top - 10, phase, 'phase', 'middle'),
  );
  const grid = ticks.map(
    tick =>
      element('line', { x1: left, x2: right, y1: y(tick), y2: y(tick), class: 'grid' }) +
      label(left - 8, y(tick) + 4, durationWords(tick), 'tick', 'end'),
  );
  const dots = spans.map(({ fromSeconds, medianSeconds, maxSeconds }) => {
    const at = x(fromSeconds);
    return (
      element('line', { x1: at, x2: at, y1: y(medianSeconds), y2: y(maxSeconds), class: 'range' }) +
      element('circle', { cx: at, cy: y(maxSeconds), r: 1.4, class: 'worst' })
    );
  });
  const seconds = Array.from({ length: Math.floor(end / 10) + 1 }, (_, i) =>
    label(x(i * 10), bottom + 20, `${i * 10} s`, 'tick', 'middle'),
  );
  return svg(
    width,
    height,
    'Lateness of every wake-up over time',
    [...bands, ...grid, ...dots, ...seconds].join(''),
  );
}

function bandsOf(spans: readonly Span[]): { phase: string; from: number; to: number }[] {
  const bands: { phase: string; from: number; to: number }[] = [];
  for (const span of spans) {
    const last = bands.at(-1);
    if (last?.phase === span.phase) last.to = span.toSeconds;
    else bands.push({ phase: span.phase, from: span.fromSeconds, to: span.toSeconds });
  }
  return bands;
}

const rowHeight = 40;

/** p50 and p99 of each phase as bars on a logarithmic axis. */
export function latenessPlot(phases: readonly Phase[]): string {
  const [left, right] = [96, width - 84];
  const x = logarithmic(left, right);
  const bottom = phases.length * rowHeight + 8;
  const grid = ticks.map(
    tick =>
      element('line', { x1: x(tick), x2: x(tick), y1: 4, y2: bottom, class: 'grid' }) +
      label(x(tick), bottom + 18, durationWords(tick), 'tick', 'middle'),
  );
  const rows = phases.map(({ name, lateness }, i) => {
    const [y, p50, p99] = [
      i * rowHeight + 12,
      lateness?.p50Seconds ?? 0,
      lateness?.p99Seconds ?? 0,
    ];
    return [
      label(left - 12, y + 18, name, 'name', 'end'),
      element('rect', {
        x: left,
        y,
        width: x(p99) - left,
        height: 24,
        rx: 3,
        class: `bar ${name}`,
      }),
      element('line', { x1: x(p50), x2: x(p50), y1: y, y2: y + 24, class: 'median' }),
      label(x(p99) + 8, y + 17, durationWords(p99), 'value'),
    ].join('');
  });
  return svg(
    width,
    bottom + 26,
    'p50 and p99 wake-up lateness of each phase',
    [...grid, ...rows].join(''),
  );
}

/** Cores that each group got in each phase, one after another in a bar. */
export function coresPlot(phases: readonly Phase[], cpus: number): string {
  const [left, right] = [96, width - 84];
  const scale = (cores: number) => (cores / cpus) * (right - left);
  const bottom = phases.length * rowHeight + 8;
  const grid = Array.from({ length: cpus + 1 }, (_, i) => {
    const at = left + scale(i);
    return (
      element('line', { x1: at, x2: at, y1: 4, y2: bottom, class: 'grid' }) +
      label(at, bottom + 18, `${i}`, 'tick', 'middle')
    );
  });
  const rows = phases.map(({ name, cores }, i) => {
    const y = i * rowHeight + 12;
    let at = left;
    const parts = Object.entries(cores).map(([group, got], part) => {
      const rectangle = element(
        'rect',
        { x: at, y, width: Math.max(0, scale(got) - 1), height: 24, rx: 3, class: `part${part}` },
        `<title>${group}: ${got.toFixed(2)} cores</title>`,
      );
      const inside =
        scale(got) > 90 ? label(at + 8, y + 17, `${group} ${got.toFixed(2)}`, 'inside') : '';
      at += scale(got);
      return rectangle + inside;
    });
    const total = Object.values(cores).reduce((a, b) => a + b, 0);
    return (
      label(left - 12, y + 18, name, 'name', 'end') +
      parts.join('') +
      label(at + 8, y + 17, total.toFixed(2), 'value')
    );
  });
  return svg(width, bottom + 26, 'Cores that each got in each phase', [...grid, ...rows].join(''));
}
