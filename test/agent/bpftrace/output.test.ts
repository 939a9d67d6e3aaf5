import test from 'ava';
import fc from 'fast-check';
import { parseLine } from '../../../src/agent/bpftrace/output.ts';

const lines: [title: string, line: string, record: unknown][] = [
  ['attached', '{"type": "attached_probes", "data": {"probes": 1}}', { type: 'attaching' }],
  ['an empty text', '{"type": "printf", "data": ""}', { type: 'beat' }],
  [
    'a scalar',
    '{"type": "map", "data": {"@x": -1}}',
    { type: 'map', name: 'x', entries: [[null, -1]] },
  ],
  [
    'the unnamed map, with keys',
    '{"type": "map", "data": {"@": {"a,b": 1, "c,d": 2}}}',
    {
      type: 'map',
      name: '',
      entries: [
        ['a,b', 1],
        ['c,d', 2],
      ],
    },
  ],
  [
    'a histogram without keys',
    '{"type": "hist", "data": {"@h": [{"max": -1, "count": 1}, {"min": 4, "max": 7, "count": 2}]}}',
    {
      type: 'map',
      name: 'h',
      entries: [
        [
          null,
          [
            { max: -1, count: 1 },
            { min: 4, max: 7, count: 2 },
          ],
        ],
      ],
    },
  ],
  [
    'stats without keys',
    '{"type": "stats", "data": {"@s": {"count": 2, "average": 3, "total": 6}}}',
    { type: 'map', name: 's', entries: [[null, { count: 2, average: 3, total: 6 }]] },
  ],
  [
    'text as a value is nothing that can be told',
    '{"type": "map", "data": {"@t": {"1": "bash"}}}',
    { type: 'map', name: 't', entries: [['1', null]] },
  ],
  [
    'events that were lost',
    '{"type": "lost_events", "data": {"events": 17}}',
    { type: 'lost', events: 17 },
  ],
  [
    'a full map',
    '{"type": "helper_error", "helper": "map_update_elem", "retcode": -7, "line": 1, "col": 23}',
    { type: 'helper', helper: 'map_update_elem', errno: 7 },
  ],
  [
    'text of the script',
    '{"type": "printf", "data": "hello\\n"}',
    { type: 'text', text: 'hello\n' },
  ],
  ['what is not JSON', 'Attaching 1 probe...', null],
  ['what is cut off', '{"type": "map", "data": {"@x"', null],
];
for (const [title, line, record] of lines)
  test(`reads ${title}`, t => {
    t.deepEqual(parseLine(line), record as ReturnType<typeof parseLine>);
  });

test('bytes above 127, as bpftrace 0.17 writes them, are UTF-8 again; a backslash before them is a backslash', t => {
  const keyOf = (json: string) => {
    const record = parseLine(`{"type": "map", "data": {"@": {"${json}": 1}}}`);
    return record?.type === 'map' ? record.entries[0]?.[0] : undefined;
  };
  t.is(keyOf('\\uffffffc3\\uffffffa9,\\u0001'), 'é,\u0001');
  t.is(keyOf('\\\\uffffffc3'), '\\uffffffc3');
  t.is(keyOf('\\uffffffff'), '\ufffd');
  t.is(keyOf('__proto__'), '__proto__');
});

test('whatever text a key is, it comes back', t => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), key => {
      const bytes = Buffer.from(JSON.stringify({ type: 'map', data: { '@': { [key]: 1 } } }));
      const record = parseLine(bytes.toString('latin1'));
      return record?.type === 'map' && record.entries[0]?.[0] === key;
    }),
  );
  t.pass();
});

test('whatever a line is, it is read or refused', t => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), line => {
      parseLine(line);
    }),
  );
  t.pass();
});
