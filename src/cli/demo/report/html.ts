import { durationWords, percentWords } from '../../words.ts';
import {
  type ControlResult,
  type DemoResult,
  failuresOf,
  type Phase,
  type SceneResult,
} from '../result.ts';
import { gainWords, moveWords } from '../terminal.ts';
import { element, escapeHtml } from './markup.ts';
import { coresPlot, latenessPlot, timelinePlot } from './plots.ts';
import { styles } from './styles.ts';
import type { Span } from './timeline.ts';

/** The report of a demonstration as one HTML file: nothing is loaded from anywhere. */
export function renderReport(result: DemoResult, timeline: readonly Span[]): string {
  const { host, control, scenes } = result;
  const failures = failuresOf(result);
  const body = [
    '<header><h1>Sculptor, demonstrated</h1>',
    `<p class="meta">${escapeHtml(host.hostName)} · Linux ${escapeHtml(host.kernel)} · ${host.cpus} CPUs · cgroup v${host.cgroupVersion} · ${escapeHtml(result.createdAt.slice(0, 16).replace('T', ' '))} UTC · ${durationWords(result.seconds)}</p></header>`,
    failures.length > 0 ? element('ul', { class: 'failures' }, list(failures)) : '',
    headline(result),
    ...scenes.map(scene => sceneSection(scene, host.cpus, timeline)),
    controlSection(control),
    footer(result),
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sculptor, demonstrated</title><style>${styles}</style></head>
<body><main>${body.join('\n')}</main></body></html>
`;
}

/** The four figures that a reader in a hurry wants. */
function headline({ scenes }: DemoResult): string {
  const [tenants] = scenes;
  const phase = (name: Phase['name']) => tenants?.phases.find(each => each.name === name);
  const [contended, sculpted] = [phase('contended'), phase('sculpted')];
  const before = contended?.lateness?.p99Seconds ?? 0;
  const after = sculpted?.lateness?.p99Seconds ?? 0;
  const kept = (sculpted?.cores['batch'] ?? 0) / Math.max(1e-9, contended?.cores['batch'] ?? 0);
  const compared = scenes.reduce((sum, scene) => sum + scene.settingsCompared, 0);
  const wrong = scenes.reduce((sum, scene) => sum + scene.differences.length, 0);
  const cards = [
    [
      `${durationWords(before)} → ${durationWords(after)}`,
      `p99 wake-up lateness, ${(before / Math.max(1e-9, after)).toFixed(0)}× less`,
    ],
    [percentWords(kept), 'of its CPU time the batch kept'],
    [
      durationWords(tenants?.onsetToActionSeconds ?? 0),
      'from the onset of contention to the action',
    ],
    [
      wrong === 0 ? 'exact' : `${wrong} wrong`,
      `${compared} kernel settings compared after giving back`,
    ],
  ] as const;
  const items = cards.map(
    ([figure, text]) => `<div><b>${escapeHtml(figure)}</b><span>${escapeHtml(text)}</span></div>`,
  );
  return element('section', { class: 'cards' }, items.join(''));
}

function sceneSection(scene: SceneResult, cpus: number, timeline: readonly Span[]): string {
  const measuresLateness = scene.phases.some(phase => phase.lateness !== null);
  const lateness = measuresLateness
    ? `<h3>Every wake-up of the critical instance, as it measured itself</h3>
<p class="note">Bars from the median to the worst of each 0.1 s, logarithmic. Between the bands: the mode is switched, batch is held and released, the action is verified.</p>
${timelinePlot(timeline)}
<h3>Wake-up lateness by phase</h3><p class="note">p99, with a mark at p50; logarithmic.</p>${latenessPlot(scene.phases)}`
    : '';
  return `<section><h2>${escapeHtml(scene.title)}</h2><p>${escapeHtml(scene.staged)}</p>
${lateness}
<h3>Cores that each got</h3>${coresPlot(scene.phases, cpus)}
${phaseTable(scene.phases)}
${decisionPart(scene)}</section>`;
}

function phaseTable(phases: readonly Phase[]): string {
  const groups = Object.keys(phases[0]?.cores ?? {});
  const timed = phases.some(phase => phase.lateness !== null);
  const head = [
    'phase',
    ...(timed ? ['p50', 'p99', 'max', 'wake-ups'] : []),
    ...groups.map(name => `${name}, cores`),
  ];
  const rows = phases.map(({ name, lateness, cores }) => [
    name,
    ...(timed && lateness
      ? [
          durationWords(lateness.p50Seconds),
          durationWords(lateness.p99Seconds),
          durationWords(lateness.maxSeconds),
          String(lateness.samples),
        ]
      : []),
    ...groups.map(group => (cores[group] ?? 0).toFixed(2)),
  ]);
  return table(head, rows, 'figures');
}

function decisionPart({
  decision,
  onsetToActionSeconds,
  differences,
  settingsCompared,
}: SceneResult): string {
  const { recommendation, action } = decision;
  const { predicted, evidence } = recommendation;
  const facts: [string, string][] = [
    ['Why', evidence.summary],
    ['Predicted', gainWords(predicted.gainRatio, predicted.interval)],
  ];
  if (action.realised) {
    const { gainRatio, interval } = action.realised;
    facts.push(['Realised', gainWords(gainRatio, interval)]);
  }
  facts.push(
    [
      'Set',
      action.allocations.map(a => `${a.resource}: ${a.before} → ${a.after ?? a.wanted}`).join('; '),
    ],
    ['Onset → action', durationWords(onsetToActionSeconds)],
    [
      'Given back',
      differences.length === 0
        ? `exactly (${settingsCompared} settings compared)`
        : differences.join('; '),
    ],
    ['Model', `${recommendation.model.name} ${recommendation.model.version}`],
  );
  const rows = evidence.alternatives.map(each => [
    each.chosen ? `✓ ${moveWords(each)}` : moveWords(each),
    percentWords(each.gainRatio),
    percentWords(each.lossRatio),
    each.why,
  ]);
  return `<h3>What was decided</h3>${table([], facts, 'facts')}
<h3>What was weighed</h3>${table(['move', 'predicted gain', 'others lose', 'why'], rows, 'weighed')}`;
}

function controlSection(control: ControlResult): string {
  const facts: [string, string][] = [
    [
      'Lateness',
      `p50 ${durationWords(control.lateness.p50Seconds)}, p99 ${durationWords(control.lateness.p99Seconds)}`,
    ],
    ['Recommended', control.recommendations === 0 ? 'nothing' : String(control.recommendations)],
    ['Done', control.actions === 0 ? 'nothing' : String(control.actions)],
    ['Why', control.verdict],
  ];
  return `<section><h2>Control: nothing is wrong, so nothing happens</h2><p>${escapeHtml(control.staged)}</p>${table([], facts, 'facts')}</section>`;
}

function footer({ rawFile }: DemoResult): string {
  return `<footer><p>Lateness is what the workload measured by its own clock: how much later than asked it ran again after sleeping one millisecond. Cores come from the kernel's own accounting (/proc/PID/task/TID/schedstat). Raw samples: <code>${escapeHtml(rawFile)}</code></p></footer>`;
}

function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  className: string,
): string {
  const cells = (row: readonly string[], tag: string) =>
    row.map(cell => element(tag, {}, escapeHtml(cell))).join('');
  const top = head.length > 0 ? `<thead><tr>${cells(head, 'th')}</tr></thead>` : '';
  const body = rows.map(row => `<tr>${cells(row, 'td')}</tr>`).join('');
  return `<div class="scroll"><table class="${className}">${top}<tbody>${body}</tbody></table></div>`;
}

function list(items: readonly string[]): string {
  return items.map(item => element('li', {}, escapeHtml(item))).join('');
}
