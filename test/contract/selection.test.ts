import test from 'ava';
import { headlineMetrics, type MetricName, metrics } from '../../src/contract/metrics.ts';
import { selectMetrics, selectSources, toldFrom } from '../../src/contract/selection.ts';

const none = { include: [], exclude: [] };

test('each profile has all of the smaller one, and full has every metric', t => {
  const minimal = selectMetrics({ profile: 'minimal', metrics: none });
  const usual = selectMetrics({ profile: 'default', metrics: none });
  const full = selectMetrics({ profile: 'full', metrics: none });
  t.true([...minimal].every(name => usual.has(name)) && [...usual].every(name => full.has(name)));
  t.true(minimal.size < usual.size && usual.size < full.size);
  t.deepEqual([...full], Object.keys(metrics));
});

test('what engine and sculptor stand on is in every selection, and so is what a part says of itself', t => {
  const least = selectMetrics({
    profile: 'minimal',
    metrics: { include: [], exclude: ['sculptor.memory.*', 'sculptor.runqueue.latency'] },
  });
  for (const name of [...headlineMetrics, 'system.cpu.time']) t.true(least.has(name));
  for (const [name, { of }] of Object.entries(metrics)) if (of === 'self') t.true(least.has(name));
  t.false(least.has('sculptor.runqueue.latency'));
  const names = Object.keys(metrics) as MetricName[];
  t.true(names.every(name => least.has(name) === (toldFrom(name) === 'always')));
});

test('what is included is told beside the profile, without what is excluded', t => {
  const selected = selectMetrics({
    profile: 'minimal',
    metrics: { include: ['sculptor.memory.*'], exclude: ['sculptor.memory.dirty'] },
  });
  t.true(selected.has('sculptor.memory.pages'));
  t.false(selected.has('sculptor.memory.dirty'));
  t.false(selected.has('container.memory.usage'));
});

test('a source runs where something of it is selected; what costs at every call, in the largest profile only', t => {
  const of = (
    profile: 'minimal' | 'default' | 'full',
    more: { include?: string[]; exclude?: string[] } = {},
  ) => selectSources({ profile, metrics: { ...none, ...more } });
  t.true(of('minimal').has('sched') && !of('minimal').has('net'));
  t.true(of('default').has('net') && !of('default').has('udp'));
  t.true(of('full').has('net') && of('full').has('udp'));
  const io = ['sculptor.network.io', 'sculptor.network.packets'];
  t.false(of('default', { include: io }).has('udp'), 'they are told of TCP');
  t.true(of('full', { exclude: io }).has('net') && !of('full', { exclude: io }).has('udp'));
});
