import test from 'ava';
import { createLiveSettings } from '../../src/agent/live-settings.ts';
import type { AgentSettings } from '../../src/contract/agent-settings.ts';
import { settingsOf } from '../../src/contract/change-settings.ts';
import { agentConfigSchema } from '../../src/contract/config.ts';

/** An agent that takes what it is told, but never reads more often than `fastest`; files are parsed as they are loaded. */
function stage(file: object, fastest = 0) {
  const atItsPace = (settings: AgentSettings) => ({
    ...settings,
    readIntervalSeconds: Math.max(fastest, settings.readIntervalSeconds),
  });
  const config = agentConfigSchema.parse(file);
  let held = atItsPace(settingsOf(config));
  const said: string[] = [];
  const { change, reload } = createLiveSettings({
    config,
    agent: {
      settings: () => held,
      change: settings => {
        held = atItsPace(settings);
      },
    },
    say: (level, text) => void said.push(`${level}: ${text}`),
  });
  return {
    change,
    reload: (other: object) => reload(agentConfigSchema.parse(other)),
    held: () => held,
    said,
  };
}

test('a file with the settings it had leaves alone what was set live, and says so', t => {
  const agent = stage({ hotTasks: 50 });
  agent.change({ hotTasks: 7, metrics: { exclude: ['sculptor.memory.*'] } });
  agent.reload({ hotTasks: 50 });
  t.is(agent.held().hotTasks, 7);
  t.deepEqual(agent.held().metrics.exclude, ['sculptor.memory.*']);
  t.deepEqual(agent.said, [
    'info: agent: the file has the settings it had; set live, and kept: hotTasks 7 (in the file 50), metrics.exclude ["sculptor.memory.*"] (in the file [])',
  ]);
});

test('a file with other settings replaces all that was set live, and each that differs is said', t => {
  const agent = stage({});
  agent.change({ hotTasks: 7, profile: 'full', detailIntervalSeconds: 5 });
  agent.reload({ profile: 'full', outliers: { aboveSeconds: 0.5 } });
  t.deepEqual(
    agent.held(),
    settingsOf(agentConfigSchema.parse({ profile: 'full', outliers: { aboveSeconds: 0.5 } })),
  );
  t.deepEqual(agent.said, [
    'info: agent: the file replaces what was set live: detailIntervalSeconds 5 → 10, hotTasks 7 → 100',
  ]);
  // The file is compared with what it was last, not with what it was at the start.
  agent.change({ hotTasks: 7 });
  agent.reload({});
  t.is(agent.held().hotTasks, 100);
  t.is(agent.said.at(-1), 'info: agent: the file replaces what was set live: hotTasks 7 → 100');
});

test('where nothing was set live nothing is said, also where the driver bounds what the file wants', t => {
  const agent = stage({ readIntervalSeconds: 0.2 }, 1);
  agent.reload({ readIntervalSeconds: 0.2 });
  agent.reload({ readIntervalSeconds: 0.5, hotTasks: 3 });
  t.is(agent.held().hotTasks, 3);
  t.is(agent.held().readIntervalSeconds, 1);
  t.deepEqual(agent.said, []);
});

test('a file that is refused replaces nothing', t => {
  const agent = stage({});
  agent.change({ hotTasks: 7 });
  t.throws(() => agent.reload({ apiSocket: '/elsewhere', hotTasks: 1 }), {
    message: /agent\.apiSocket cannot change/,
  });
  t.is(agent.held().hotTasks, 7);
  agent.reload({});
  t.is(agent.held().hotTasks, 7, 'nor is it what the next one is compared with');
});
