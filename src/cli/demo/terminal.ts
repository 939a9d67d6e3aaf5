import type { Alternative } from '../../contract/recommendation.ts';
import { formatFields, formatTable, wrap } from '../table.ts';
import { coresWords, durationWords, percentWords } from '../words.ts';
import {
  type ControlResult,
  type DemoResult,
  failuresOf,
  type Phase,
  type SceneResult,
} from './result.ts';

const width = 96;

/** The whole answer of the demo for a terminal: control, a table and a chart per scene, what was decided and why. */
export function formatDemo(result: DemoResult): string {
  const failures = failuresOf(result);
  const verdict =
    failures.length === 0
      ? `Everything is as it was before: ${result.scenes.reduce((sum, s) => sum + s.settingsCompared, 0)} settings compared.`
      : `FAILED:\n${failures.map(each => `  ${each}`).join('\n')}`;
  return [
    formatControl(result.control),
    ...result.scenes.map(formatScene),
    `${verdict}\nTook ${durationWords(result.seconds)} after set-up. Raw samples: ${result.rawFile}`,
  ].join('\n\n');
}

function formatControl(control: ControlResult): string {
  const { lateness, cores } = control;
  return [
    heading('Control: nothing is wrong'),
    wrap(control.staged, width),
    formatFields([
      [
        'wake-up lateness',
        `p50 ${durationWords(lateness.p50Seconds)}, p99 ${durationWords(lateness.p99Seconds)}`,
      ],
      [
        'cores',
        Object.entries(cores)
          .map(([name, got]) => `${name} ${got.toFixed(2)}`)
          .join(', '),
      ],
      ['recommended', control.recommendations === 0 ? 'nothing' : String(control.recommendations)],
      ['done', control.actions === 0 ? 'nothing' : `${control.actions} action(s)`],
      ['why', control.verdict],
    ]),
  ].join('\n');
}

function formatScene(scene: SceneResult): string {
  const chart = scene.phases.some(phase => phase.lateness !== null)
    ? formatLatenessChart(scene.phases)
    : formatCoresChart(scene.phases);
  return [
    heading(scene.title),
    wrap(scene.staged, width),
    '',
    formatPhases(scene.phases),
    '',
    chart,
    '',
    formatDecision(scene),
  ].join('\n');
}

function heading(text: string): string {
  return `${text}\n${'─'.repeat(text.length)}`;
}

function formatPhases(phases: readonly Phase[]): string {
  const groups = Object.keys(phases[0]?.cores ?? {});
  const lateness = phases.some(phase => phase.lateness !== null)
    ? (['p50Seconds', 'p99Seconds', 'maxSeconds'] as const).map(key => ({
        title: key.replace('Seconds', ''),
        right: true,
        of: ({ lateness: measured }: Phase) => (measured ? durationWords(measured[key]) : '–'),
      }))
    : [];
  const cores = groups.map(name => ({
    title: `${name} cores`,
    right: true,
    of: (phase: Phase) => (phase.cores[name] ?? 0).toFixed(2),
  }));
  return formatTable([{ title: 'phase', of: phase => phase.name }, ...lateness, ...cores], phases);
}

const barWidth = 50;

/** p99 on a logarithmic scale whose left edge is 50 µs: a bar twice as long is no latency twice as high. */
function formatLatenessChart(phases: readonly Phase[]): string {
  const least = 50e-6;
  const most = Math.max(...phases.map(({ lateness }) => lateness?.p99Seconds ?? 0), 1e-3);
  const bars = phases.map(({ name, lateness }) => {
    const p99 = lateness?.p99Seconds ?? 0;
    const length =
      (Math.log(Math.max(p99, least * 1.05) / least) / Math.log(most / least)) * barWidth;
    return `${name.padEnd(10)} ${bar(length)} ${durationWords(p99)}`;
  });
  return ['p99 wake-up lateness (logarithmic)', ...bars].join('\n');
}

function formatCoresChart(phases: readonly Phase[]): string {
  const totals = phases.map(({ cores }) => Object.values(cores).reduce((a, b) => a + b, 0));
  const most = Math.max(...totals, 1);
  const bars = phases.map(({ name }, i) => {
    const total = totals[i] ?? 0;
    return `${name.padEnd(10)} ${bar((total / most) * barWidth)} ${coresWords(total)}`;
  });
  return ['cores that they got together', ...bars].join('\n');
}

/** Eighths of a character, as block elements have them. */
function bar(length: number): string {
  const eighths = Math.max(1, Math.round(length * 8));
  return (
    '█'.repeat(Math.floor(eighths / 8)) +
    (['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8] ?? '')
  );
}

function formatDecision({ decision, onsetToActionSeconds, differences }: SceneResult): string {
  const { recommendation, action } = decision;
  const { predicted, evidence } = recommendation;
  const chosen = evidence.alternatives.find(each => each.chosen);
  const fields: [string, string][] = [
    ['mechanism', `${recommendation.mechanism}: ${chosen ? chosen.size : 'see the moves'}`],
    ['because', evidence.summary],
    ['predicted', gainWords(predicted.gainRatio, predicted.interval)],
  ];
  if (action.realised)
    fields.push(['realised', gainWords(action.realised.gainRatio, action.realised.interval)]);
  fields.push(
    ['onset → action', durationWords(onsetToActionSeconds)],
    ['given back', differences.length === 0 ? 'exactly' : `NOT: ${differences.join('; ')}`],
  );
  const others = evidence.alternatives.filter(each => !each.chosen);
  const table = formatTable(
    [
      { title: 'not chosen', of: moveWords },
      { title: 'gain', right: true, of: each => percentWords(each.gainRatio) },
      { title: 'others lose', right: true, of: each => percentWords(each.lossRatio) },
      { title: 'why', of: each => each.why },
    ],
    others,
  );
  return [formatFields(fields), ...(others.length > 0 ? ['', table] : [])].join('\n');
}

/** Both sides say how much less of its demand waits; the bounds of a small sample may lie past everything. */
export function gainWords(gain: number, [low, high]: readonly [number, number]): string {
  return `${percentWords(gain)} less waiting (${percentWords(Math.max(-1, low))} … ${percentWords(Math.min(1, high))})`;
}

/** What was weighed, by its size, or by its kind where it could not be sized. */
export function moveWords({ kind, size }: Alternative): string {
  return size === '' || size === 'none' ? kind : size;
}
