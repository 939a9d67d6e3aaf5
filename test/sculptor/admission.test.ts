import test from 'ava';
import type { Action } from '../../src/contract/action.ts';
import { policySchema } from '../../src/contract/policy.ts';
import type { Move } from '../../src/contract/recommendation.ts';
import { type AdmissionInput, admit } from '../../src/sculptor/admission.ts';
import { createHeadlineSeries } from '../../src/sculptor/headline-series.ts';
import { createHistory } from '../../src/sculptor/history.ts';
import { instance, move } from './support/cgroup-lab.ts';
import { recommend } from './support/recommend.ts';

/** A Wednesday, in local time. */
const noon = at('2026-06-03T12:00');
const contended = { run: 0.2, wait: 0.3 };

function at(local: string): number {
  return new Date(local).getTime() / 1000;
}

type Cores = { run: number; wait: number };
type Others = { interval?: number; now?: number; others?: readonly string[]; othersAt?: number };

/** Points of /a up to now, with these cores so many seconds ago, and of others that were there when nothing else is said. */
function seriesOf(
  cores: (secondsAgo: number) => Cores,
  { interval = 0.2, now = noon, others = [], othersAt = now }: Others = {},
) {
  const series = createHeadlineSeries();
  let [run, wait] = [0, 0];
  for (let i = Math.round(30 / interval); i >= 0; i -= 1) {
    const time = now - i * interval;
    series.add('/a', 'container.cpu.time', time, run);
    series.add('/a', 'sculptor.runqueue.wait', time, wait);
    const next = cores((i - 0.5) * interval);
    run += next.run * interval;
    wait += next.wait * interval;
  }
  for (const id of others) series.add(id, 'container.cpu.time', othersAt, 1);
  return series;
}

type Asked = Partial<Omit<AdmissionInput, 'policy'>> & { policy?: object; moves?: Move[] };

/** Why it is refused; null: it is admitted. */
function refusal({ policy, moves = [move('/a', { weight: 6400 })], ...change }: Asked) {
  return (
    admit({
      policy: policySchema.parse(policy ?? {}),
      recommendation: recommend(noon, '/a', moves),
      affected: moves.map(each => each.instance.id),
      plan: { widened: [], entries: [] },
      running: [],
      held: new Map(),
      history: createHistory([]),
      series: seriesOf(() => contended, { now: change.now ?? noon }),
      now: noon,
      ...change,
    })?.reason.code ?? null
  );
}

test('a change window holds on its days, in local time; one that ends before it begins runs past midnight', t => {
  const [wednesday, sunday] = [3, 0];
  const day = { days: [wednesday], from: '09:30', to: '17:00' };
  const night = { days: [wednesday], from: '22:00', to: '02:30' };
  const sundays = { days: [sunday], from: '22:00', to: '02:30' };
  for (const [window, local, isWithin] of [
    [day, '2026-06-03T09:29', false],
    [day, '2026-06-03T09:30', true],
    [day, '2026-06-03T16:59', true],
    [day, '2026-06-03T17:00', false],
    [day, '2026-06-04T12:00', false],
    [night, '2026-06-03T21:59', false],
    [night, '2026-06-03T22:00', true],
    [night, '2026-06-04T02:29', true],
    [night, '2026-06-04T02:30', false],
    [night, '2026-06-03T01:00', false],
    [night, '2026-06-04T23:00', false],
    [sundays, '2026-06-08T01:00', true],
  ] as const)
    t.is(
      refusal({ policy: { changeWindows: [window] }, now: at(local) }),
      isWithin ? null : 'window',
      `${window.from} at ${local}`,
    );
  t.is(refusal({ policy: { changeWindows: [night, day] } }), null, 'one of them is enough');
});

test('contention is so many cores of wait, and such a part of all demand', t => {
  const asked = (run: number, wait: number) => refusal({ series: seriesOf(() => ({ run, wait })) });
  t.is(asked(0.1, 0.06), null);
  t.is(asked(0.1, 0.04), 'not-contended');
  t.is(asked(1, 0.12), null);
  t.is(asked(1, 0.105), 'not-contended');
});

test('contention that has just begun counts, and such as comes and goes, and that of a slow series', t => {
  const waits = (isSo: (secondsAgo: number) => boolean, interval?: number) =>
    refusal({
      series: seriesOf(ago => (isSo(ago) ? contended : { run: 0.2, wait: 0 }), {
        ...(interval === undefined ? {} : { interval }),
      }),
    });
  t.is(
    waits(ago => ago < 0.4),
    null,
  );
  t.is(
    waits(ago => ago > 0.2 && ago < 0.4),
    null,
  );
  t.is(
    waits(ago => ago > 1.2 && ago < 2.8),
    null,
  );
  t.is(
    waits(ago => ago > 4),
    'not-contended',
  );
  t.is(
    waits(ago => ago < 10, 10),
    null,
  );
});

test('who is given back its own CPUs needs some wait only, and nobody else', t => {
  const series = seriesOf(() => ({ run: 0.3, wait: 0.01 }));
  const policy = { instances: [{ match: '/*', allowWidening: true }] };
  const asked = (moves: Move[], widened: string[]) =>
    refusal({ series, policy, moves, plan: { widened, entries: [] } });
  t.is(asked([move('/a', { cpus: [0, 1] })], ['/a']), null);
  t.is(asked([move('/a', { cpus: [0, 1] })], []), 'not-contended');
  t.is(asked([move('/b', { cpus: [0, 1] })], ['/b']), 'not-contended');
});

test('telemetry may be as old as three of its own intervals', t => {
  const series = seriesOf(() => contended, { interval: 10 });
  t.is(refusal({ series, now: noon + 29 }), null);
  t.is(refusal({ series, now: noon + 31 }), 'stale-telemetry');
});

const holding = (beneficiary: string, ...moved: string[]) =>
  ({
    id: 'the-action',
    beneficiary: instance(beneficiary),
    moves: moved.map(id => move(id, { weight: 5 })),
  }) as unknown as Action;

test('what an action holds, and whom it is for, is nothing for a second one', t => {
  const beside = (action: Action) =>
    refusal({
      policy: { limits: { maxTouchedRatio: 1 } },
      moves: [move('/b', { idle: true })],
      running: [action],
    });
  t.is(beside(holding('/c', '/b')), 'overlap');
  t.is(beside(holding('/a', '/c')), 'overlap');
  t.is(beside(holding('/c', '/d')), null);
});

test('the share that may be moved counts what running actions move, all below it, and who is there now', t => {
  const touching = (
    moved: string[],
    {
      others,
      running = [],
      othersAt = noon,
    }: {
      others: string[];
      running?: Action[];
      othersAt?: number;
    },
  ) =>
    refusal({
      moves: moved.map(id => move(id, { idle: true })),
      series: seriesOf(() => contended, { others, othersAt }),
      running,
    });
  t.is(touching(['/b'], { others: [] }), null, 'one may always be moved');
  t.is(touching(['/b', '/c'], { others: ['/b', '/c', '/d'] }), null);
  t.is(touching(['/b', '/c'], { others: ['/b', '/c'] }), 'limit');
  t.is(touching(['/b'], { others: ['/b', '/c'], running: [holding('/e', '/c')] }), 'limit');
  t.is(touching(['/b'], { others: ['/b', '/b/x'] }), 'limit');
  t.is(touching(['/b'], { others: ['/b', '/bx'] }), null, 'beside it');
  t.is(touching(['/b', '/c'], { others: ['/c', '/d'] }), null, 'of which nothing was heard');
  t.is(
    touching(['/b', '/c'], { others: ['/d', '/e'], othersAt: noon - 121 }),
    'limit',
    'who has ended is none of them',
  );
});
