import test from 'ava';
import { escapeHtml } from '../../../src/cli/demo/report/markup.ts';
import { latenessPlot } from '../../../src/cli/demo/report/plots.ts';
import { timelineOf } from '../../../src/cli/demo/report/timeline.ts';
import { differences } from '../../../src/cli/demo/state.ts';

test('samples become spans of a tenth of a second, cut where the phase changes', t => {
  const raw = `${'alone\t100\n'.repeat(10)}${'contended\t9000\n'.repeat(20)}`;
  const spans = timelineOf(raw, 0.0013);
  t.is(spans[0]?.phase, 'alone');
  t.is(spans[1]?.phase, 'contended');
  t.true(Math.abs((spans[0]?.toSeconds ?? 0) - 10 * 0.0014) < 1e-9);
  // 0.0103 s a cycle: ten of them are a span.
  t.is(spans.length, 3);
  t.is(spans[1]?.maxSeconds, 0.009);
});

test('malformed lines of a raw file are left out', t => {
  t.deepEqual(timelineOf('alone\tx\n\nalone\n', 0.001), []);
});

test('plots hold text that cannot break out of them', t => {
  t.is(escapeHtml('<b a="1">&'), '&lt;b a=&quot;1&quot;&gt;&amp;');
});

test('a bar is drawn for each phase', t => {
  const lateness = { samples: 1, p50Seconds: 1e-4, p99Seconds: 1e-3, maxSeconds: 1 };
  const plot = latenessPlot([
    { name: 'alone', lateness, cores: {} },
    { name: 'contended', lateness, cores: {} },
  ]);
  t.is(plot.match(/<rect/g)?.length, 2);
  t.regex(plot, /1\.00 ms/);
});

test('states that differ are told key by key, whatever side lacks one', t => {
  const before = new Map([
    ['a', '1'],
    ['b', '2'],
  ]);
  const after = new Map([
    ['a', '3'],
    ['c', '4'],
  ]);
  t.deepEqual(differences(before, after), [
    'a: was 1, is 3',
    'b: was 2, is gone',
    'c: was not there, is 4',
  ]);
  t.deepEqual(differences(before, new Map(before)), []);
});
