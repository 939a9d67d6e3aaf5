import test from 'ava';
import { createLiveConfig, readingSeconds } from '../../src/agent/live-config.ts';
import { sourceKinds } from '../../src/agent/sources/sources.ts';
import { settingsOf } from '../../src/contract/change-settings.ts';
import { agentConfigSchema } from '../../src/contract/config.ts';
import { metrics } from '../../src/contract/metrics.ts';

test('settings change in place, and the selection with them; what holds from the start stays', t => {
  const initial = agentConfigSchema.parse({ maxInstances: 99 });
  const { config, selection, change } = createLiveConfig(initial);
  t.true(selection.tells('sculptor.memory.dirty') && selection.tellsOf('memory'));
  change({ ...settingsOf(config), profile: 'minimal', hotTasks: 3 });
  t.is(config.hotTasks, 3);
  t.is(config.maxInstances, 99);
  t.is(initial.hotTasks, 100, 'what was handed in is as it was');
  t.false(selection.tells('sculptor.memory.dirty') || selection.tellsOf('memory'));
  t.true(selection.tells('sculptor.runqueue.wait') && selection.tellsOf('sched'));
});

test('totals are read as often as something is told at that pace', t => {
  const config = agentConfigSchema.parse({});
  t.is(readingSeconds(config), 0.2);
  t.is(readingSeconds({ ...config, headlineIntervalSeconds: 10 }), 0.2);
  t.is(readingSeconds({ ...config, fastInstances: 0 }), 1);
  t.is(readingSeconds({ ...config, fastInstances: 0, headlineIntervalSeconds: 10 }), 1);
  t.is(readingSeconds({ ...config, fastInstances: 0, headlineIntervalSeconds: 0.5 }), 0.5);
  t.is(readingSeconds({ ...config, fastInstances: 0, readIntervalSeconds: 3 }), 3);
});

test('a source that is of the largest profile only starts and stops with it', t => {
  const { config, selection, change } = createLiveConfig(agentConfigSchema.parse({}));
  t.true(selection.tells('sculptor.network.io') && selection.tellsOf('net'));
  t.false(selection.tellsOf('udp'));
  change({ ...settingsOf(config), profile: 'full' });
  t.true(selection.tellsOf('udp'));
  change({ ...settingsOf(config), profile: 'default' });
  t.false(selection.tellsOf('udp'));
});

test("a user's own metrics are told whatever is selected", t => {
  const { selection } = createLiveConfig(agentConfigSchema.parse({ profile: 'minimal' }));
  const metric = { name: 'mine', unit: '1', type: 'counter', description: '' } as const;
  t.true(selection.tells(metric) && selection.tellsOf('of-a-user'));
});

test('each source of the table of metrics is one that can be started under its name, or always there', t => {
  const always = new Set(['sched', 'cost', 'host', 'agent', 'gate', 'intake']);
  const named = new Set(Object.values(metrics).flatMap(({ sources }) => sources));
  for (const name of named)
    t.true(always.has(name) || sourceKinds.some(kind => kind.name === name), name);
});
