import test from 'ava';
import { parseHeaders } from '../../../src/agent/custom/header.ts';
import { readScript } from '../../../src/agent/custom/probe.ts';
import { bucketsOf, programOf } from '../../../src/agent/custom/program.ts';

test('a header tells name, unit, type, labels and map', t => {
  t.deepEqual(
    parseHeaders(
      '#!/usr/bin/env bpftrace\n// sculptor: name: my.metric, unit: s, type: histogram,\n//   labels: [comm, cgroup], map: usecs, scale: 1e-6\nBEGIN {}\n',
      'a.bt',
    ),
    [
      {
        name: 'my.metric',
        unit: 's',
        type: 'histogram',
        labels: ['comm', 'cgroup'],
        map: 'usecs',
        scale: 1e-6,
        headline: false,
        line: 2,
      },
    ],
  );
});

const wrong: [header: string, said: RegExp][] = [
  [
    'name: my.metric, unit: s, type: counter, labls: [a]',
    /a\.bt:1: labls: unknown key; did you mean "labels"\?/,
  ],
  ['name: my.metric, unit: s', /type: got nothing, wanted one of counter, gauge, histogram/],
  ['name: metric, unit: s, type: counter', /name: got "metric", wanted lower-case words/],
  ['name: container.cpu.time, unit: s, type: counter', /a name that is not of this product itself/],
  ['name: container.cpu.time.forecast, unit: s, type: counter', /not of this product/],
  ['name: sculptor.mine, unit: s, type: counter', /not of this product/],
  ['name: container.cpu_time, unit: s, type: counter', /not of this product/],
  ['name: my.metric, unit: s, type: counter, labels: [a, a]', /wanted each label once/],
  ['name: my.metric, unit: s, type: counter, labels: [a.b, a_b]', /wanted each label once/],
  ['name: my.metric, unit: s, type: histogram, labels: [le]', /nor Prometheus for itself/],
  [
    'name: my.metric, unit: s, type: counter, labels: [sculptor_origin]',
    /got "sculptor_origin", wanted a name that is not of this product/,
  ],
  ['name: my.metric, unit: s, type: counter, labels: [host_id]', /that neither the resource has/],
  ['name: my.metric, unit: s, type: counter, scale: 0', /scale: got 0, wanted more than 0/],
  ['name: my.metric, unit: "a b", type: counter', /UCUM/],
  ['name: my.metric, labels: [a', /a\.bt:1: got /],
  [
    'name: my.metric, unit: s, type: counter, labels: [cgroup, comm], headline: true',
    /headline: got true, wanted true only of a counter or a gauge whose labels are \[cgroup\]/,
  ],
  ['name: my.metric, unit: s, type: histogram, labels: [cgroup], headline: true', /headline: got/],
];
for (const [header, said] of wrong)
  test(`refused with file, line, got and wanted: ${header}`, t => {
    t.throws(() => parseHeaders(`// sculptor: ${header}\n`, 'a.bt'), {
      code: 'CUSTOM_PROBE_INVALID',
      message: said,
    });
  });

test('refused: no header, and two of one name or one map', t => {
  t.throws(() => parseHeaders('BEGIN {}', 'a.bt'), { message: /a\.bt:1: got no header/ });
  const line = (name: string, map: string) =>
    `// sculptor: name: ${name}, unit: s, type: counter, map: ${map}\n`;
  t.throws(() => parseHeaders(line('a.b', 'x') + line('a.b', 'y'), 'a.bt'), {
    message: /a\.bt:2: got name "a\.b" again/,
  });
  t.throws(() => parseHeaders(line('a.b', 'x') + line('a.c', 'x'), 'a.bt'), {
    message: /a\.bt:2: got map "x" again/,
  });
  const headline = (name: string) =>
    `// sculptor: name: ${name}, unit: s, type: counter, map: ${name[0]}, labels: [cgroup], headline: true\n`;
  t.throws(() => parseHeaders(headline('a.b') + headline('b.b'), 'a.bt'), {
    message: /a\.bt:2: got a second headline, wanted at most one/,
  });
});

test('the script is run as written, with a probe below it that prints its maps', t => {
  const script = '// sculptor: name: a.b, unit: s, type: counter\nBEGIN { @ = 1; } // end';
  t.is(
    programOf(script, parseHeaders(script, 'a.bt'), 5),
    `${script}\ninterval:ms:5000 { print(@); }\ninterval:s:1 { printf(""); }\n`,
  );
});

test('the map of a headline series is printed every second, others as told', t => {
  const header = (more: string) => `// sculptor: unit: s, type: counter, ${more}\n`;
  const headline = header('name: a.b, map: x, labels: [cgroup], headline: true');
  const other = header('name: a.c, map: y');
  const programs = (script: string) =>
    programOf(script, parseHeaders(script, 'a.bt'), 5).slice(script.length);
  const every = 'interval:s:1 { print(@x); printf(""); }\n';
  t.is(programs(headline), `\n${every}`);
  t.is(programs(headline + other), `\ninterval:ms:5000 { print(@y); }\n${every}`);
});

test('bounds of lhist() follow from the script; those of hist() are its own', t => {
  t.deepEqual(
    bucketsOf('BEGIN { @x[pid, "a"] = lhist(f(1, 2), 0, 100, 50); }', 'x')?.bounds,
    [-1, 49, 99],
  );
  t.deepEqual(bucketsOf('BEGIN { @x = hist(1); }', 'x')?.bounds.slice(0, 5), [-1, 0, 1, 3, 7]);
  t.is(bucketsOf('// @x = lhist(1, 0, 2, 1);\nBEGIN { @x = hist(1); }', 'x')?.kind, 'hist');
  t.is(bucketsOf('BEGIN { @xy = lhist(1, 0, 2, 1); @x = hist(1); }', 'x')?.kind, 'hist');
  t.is(bucketsOf('BEGIN { @ = lhist(1, 0, 2, 1); }', '')?.kind, 'lhist');
  t.is(bucketsOf('BEGIN { @x = lhist(1, 0, 1000, 1); }', 'x'), null);
  t.is(bucketsOf('BEGIN { @x = lhist(1, MIN, 10, 1); }', 'x'), null);
});

const printed = (print: string) => () =>
  readScript(
    `// sculptor: name: a.b, unit: s, type: counter, labels: [comm], map: x\nBEGIN { @x[comm] = count(); ${print} }`,
    'a.bt',
  );

for (const print of ['print(@x, 5);', 'print (@x , 0, 1000);'])
  test(`refused, since what is missing would be counted again: ${print}`, t => {
    t.throws(printed(print), { code: 'CUSTOM_PROBE_INVALID', message: /a\.bt:1: got a print\(@x/ });
  });

for (const print of ['print(@x);', 'print(@xy, 5);', 'print(@x["a"]);', '/* print(@x, 5) */'])
  test(`may be printed: ${print}`, t => {
    t.notThrows(printed(print));
  });
