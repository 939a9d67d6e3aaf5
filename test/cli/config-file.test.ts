import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import test from 'ava';
import { loadConfig, parseConfig } from '../../src/cli/config-file.ts';
import { ConfigError } from '../../src/contract/errors.ts';
import { nearestOf } from '../../src/contract/nearest.ts';
import { socketFolder } from '../support/sockets.ts';

const refused = test.macro((t, yaml: string, code: string, wanted: RegExp) => {
  const error = t.throws(() => parseConfig(yaml, 'sculpt.yaml'), { instanceOf: ConfigError });
  t.is(error?.code, code as never);
  t.regex(error?.message ?? '', wanted);
});

test(
  'an unknown key is refused with its path and the nearest key that is known',
  refused,
  'agent: { hotTask: 3 }',
  'CONFIG_INVALID',
  /^sculpt\.yaml: agent\.hotTask: unknown key; did you mean "hotTasks"\?$/,
);

test(
  'an unknown key that resembles nothing lists the known ones',
  refused,
  'sculptor: { policy: { instances: [{ match: a, colour: red }] } }',
  'CONFIG_INVALID',
  /policy\.instances\[0\]\.colour: unknown key; known here: match, class, mode/,
);

test(
  'a gate that would listen everywhere without being told the address is refused',
  refused,
  'agent: { gate: { tcp: { port: 4317, guests: [{ address: 10.0.0.2, instance: a }] } } }',
  'CONFIG_INVALID',
  /agent\.gate\.tcp\.host: got nothing, wanted/,
);

test(
  'a context id that is of two instances is refused',
  refused,
  'agent: { gate: { vsock: { port: 4317, guests: [{ cid: 3, instance: a }, { cid: 3, instance: b }] } } }',
  'CONFIG_INVALID',
  /agent\.gate\.vsock\.guests: .*wanted each cid once/,
);

test(
  'an interval of 0 is refused with what came and what was wanted',
  refused,
  'agent: { readIntervalSeconds: 0 }',
  'CONFIG_INVALID',
  /agent\.readIntervalSeconds: got 0, wanted at least 0\.05$/,
);

test(
  'a value that is none of several names them',
  refused,
  'pipeline: { mode: enforced }',
  'CONFIG_INVALID',
  /pipeline\.mode: got "enforced", wanted one of off, observe, approve, enforce/,
);

test(
  'a wrong type is refused in words',
  refused,
  'engine: { maxSeries: many }',
  'CONFIG_INVALID',
  /engine\.maxSeries: got "many", wanted a (whole )?number/,
);

test(
  'two mistakes are told at once',
  refused,
  'agent: { readIntervalSeconds: 0, hotTasks: -1 }',
  'CONFIG_INVALID',
  /readIntervalSeconds.*; agent\.hotTasks: got -1, wanted at least 0/,
);

test('text that is no YAML is unreadable', refused, 'a: [', 'CONFIG_UNREADABLE', /^sculpt\.yaml: /);

test(
  'two documents in one file are one too many',
  refused,
  'nice: 1\n---\nnice: 2\n',
  'CONFIG_UNREADABLE',
  /^sculpt\.yaml: Source contains multiple documents, wanted one at line 2/,
);

test('a path that is a folder, or is not there, is told in words', t => {
  t.throws(() => loadConfig('/'), { message: '/: got a folder, wanted a file' });
  t.throws(() => loadConfig('/nowhere'), { message: '/nowhere: no such file' });
});

test('a pipe, which the second of two readings finds empty, is refused', t => {
  const pipe = join(socketFolder(t), 'pipe');
  execFileSync('mkfifo', [pipe]);
  t.throws(() => loadConfig(pipe), { message: `${pipe}: got a pipe, wanted a file` });
});

test('an empty file is the default configuration', t => {
  t.is(parseConfig('', 'sculpt.yaml').pipeline.mode, 'observe');
});

test('a file that was named and is not there is an error', t => {
  const error = t.throws(() => loadConfig('/nowhere/sculpt.yaml'), { instanceOf: ConfigError });
  t.is(error?.code, 'CONFIG_UNREADABLE');
  t.regex(error?.message ?? '', /no such file/);
});

test('a key that is far from all known ones has no nearest', t => {
  t.is(nearestOf('colour', ['match', 'class']), null);
  t.is(nearestOf('weigt', ['weight', 'class']), 'weight');
});
