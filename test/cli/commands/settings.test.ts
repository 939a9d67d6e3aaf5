import test from 'ava';
import { InvalidArgumentError } from 'commander';
import { addSetting } from '../../../src/cli/commands/settings.ts';

test('settings are keys with values as in the configuration file; what is given of one section comes together', t => {
  const texts = [
    'hotTasks=20',
    'profile=minimal',
    'metrics.include=[sculptor.memory.dirty]',
    'metrics.exclude=[]',
    'readIntervalSeconds=0.5',
  ];
  t.deepEqual(
    texts.reduce((change, text) => addSetting(text, change), {}),
    {
      hotTasks: 20,
      profile: 'minimal',
      metrics: { include: ['sculptor.memory.dirty'], exclude: [] },
      readIntervalSeconds: 0.5,
    },
  );
});

test('what is no setting is refused', t => {
  for (const text of ['hotTasks', '=5', 'hot tasks=5'])
    t.throws(() => addSetting(text), { message: /wanted KEY=VALUE/ });
});

test('a value that is not YAML is refused as what the user wrote', t => {
  const error = t.throws(() => addSetting('metrics.exclude=[sculptor.memory.dirty'), {
    instanceOf: InvalidArgumentError,
  });
  t.regex(
    error?.message ?? '',
    /^wanted YAML behind the "=": Flow sequence .* at line 1, column \d+\.$/,
  );
});
