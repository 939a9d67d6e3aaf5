import test from 'ava';
import {
  changeSettings,
  settingsOf,
  settingsOfReload,
} from '../../src/contract/change-settings.ts';
import { agentConfigSchema } from '../../src/contract/config.ts';
import { ConfigError } from '../../src/contract/errors.ts';

const config = agentConfigSchema.parse({ metrics: { include: ['sculptor.task.migrations'] } });
const settings = settingsOf(config);

test('what is not given stays, within the selection too', t => {
  const changed = changeSettings(settings, {
    hotTasks: 7,
    metrics: { exclude: ['sculptor.memory.*'] },
  });
  t.deepEqual(changed, {
    ...settings,
    hotTasks: 7,
    metrics: { include: ['sculptor.task.migrations'], exclude: ['sculptor.memory.*'] },
  });
});

test('of every group of settings, what is not given stays', t => {
  const told = changeSettings(settings, { outliers: { aboveSeconds: 0.02 } });
  const fewer = changeSettings(told, { outliers: { perInstancePerSecond: 5 } });
  t.deepEqual(fewer.outliers, { aboveSeconds: 0.02, perInstancePerSecond: 5 });
  const later = changeSettings(fewer, { outliers: { aboveSeconds: 0.5 } });
  t.deepEqual(later, { ...settings, outliers: { aboveSeconds: 0.5, perInstancePerSecond: 5 } });
  const off = changeSettings(later, { outliers: { aboveSeconds: null } });
  t.is(off.outliers.aboveSeconds, null);
});

const refused = test.macro((t, change: object, code: string, why: RegExp) => {
  const error = t.throws(() => changeSettings(settings, { ...change }), {
    instanceOf: ConfigError,
  });
  t.is(error?.code, code as never);
  t.regex(error?.message ?? '', why);
});

test(
  'what holds from the start is refused by its name',
  refused,
  { maxInstances: 20, hotTasks: 3 },
  'CONFIG_REFUSED',
  /^agent\.maxInstances cannot change while the agent runs/,
);
test(
  'an unknown setting is refused with the nearest one',
  refused,
  { hotTask: 3 },
  'CONFIG_INVALID',
  /^agent\.hotTask: unknown key; did you mean "hotTasks"\?$/,
);
test(
  'an unknown key that resembles nothing lists those that can change',
  refused,
  { agent: { hotTasks: 3 } },
  'CONFIG_INVALID',
  /^agent\.agent: unknown key; known here: readIntervalSeconds, .*, profileWindowSeconds$/,
);
test(
  'a value out of its bounds is refused with what was wanted',
  refused,
  { readIntervalSeconds: 0 },
  'CONFIG_INVALID',
  /^agent\.readIntervalSeconds: got 0, wanted at least 0\.05$/,
);
test(
  'an unknown metric is refused with the nearest one',
  refused,
  { metrics: { include: ['sculptor.memory.page'] } },
  'CONFIG_INVALID',
  /^agent\.metrics\.include\[0\]: got "sculptor\.memory\.page", wanted .* did you mean "sculptor\.memory\.pages"\?$/,
);
test(
  'a headline series cannot be left out, and it is said why',
  refused,
  { metrics: { exclude: ['sculptor.runqueue.*'] } },
  'CONFIG_INVALID',
  /exclude\[0\]: got "sculptor\.runqueue\.\*", wanted a metric that can be left out: sculptor\.runqueue\.wait cannot, since engine/,
);
test(
  'a selection that is none is refused',
  refused,
  { metrics: 'all' },
  'CONFIG_INVALID',
  /object/,
);

for (const group of ['metrics', 'outliers'])
  test(
    `null is no ${group}`,
    refused,
    { [group]: null },
    'CONFIG_INVALID',
    new RegExp(`^agent\\.${group}: got null, wanted an object$`),
  );

test('a file that was changed in what holds from the start is refused whole', t => {
  const loaded = { ...config, hotTasks: 3 };
  t.is(settingsOfReload(config, loaded).hotTasks, 3);
  t.throws(() => settingsOfReload(config, { ...loaded, apiSocket: '/elsewhere' }), {
    message: /^agent\.apiSocket cannot change/,
  });
});

test('what is wrong is said in short, however much of it there is, and holds nobody up', t => {
  const began = performance.now();
  const wrong = (change: object) =>
    String(t.throws(() => changeSettings(settings, { ...change }))?.message);
  const keys = Array.from({ length: 5000 }, (_, i) => [`hotTask${i}`, 1]);
  const many = wrong(Object.fromEntries(keys));
  t.regex(many, /^agent\.hotTask0: unknown key; did you mean "hotTasks"\?; /);
  t.regex(many, /; agent: 4990 other unknown keys$/);
  t.true(wrong({ ['x'.repeat(1_000_000)]: 1 }).length < 1000);
  t.true(wrong({ metrics: { include: ['x'.repeat(1_000_000)] } }).length < 1000);
  const took = performance.now() - began;
  t.true(took < 5000, `${took} ms`);
});
