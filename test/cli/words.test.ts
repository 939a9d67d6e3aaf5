import test from 'ava';
import { formatTable, wrap } from '../../src/cli/table.ts';
import { agoWords, durationWords, percentWords } from '../../src/cli/words.ts';

const duration = test.macro({
  exec: (t, seconds: number, words: string) => t.is(durationWords(seconds), words),
  title: (_, seconds, words) => `${seconds} s is written ${words}`,
});
test(duration, 87e-6, '87 µs');
test(duration, 0.00014, '0.14 ms');
test(duration, 0.0117, '11.7 ms');
test(duration, 0.62, '620 ms');
test(duration, 1.234, '1.23 s');
test(duration, 96, '96.0 s');

test('small percentages keep a decimal', t => {
  t.is(percentWords(0.025), '2.5 %');
  t.is(percentWords(0.94), '94 %');
  t.is(percentWords(0), '0 %');
});

test('time past is told in whole units', t => {
  t.is(agoWords(100, 190), '90 s ago');
  t.is(agoWords(0, 3600), '60 min ago');
});

test('columns are as wide as their widest cell, numbers to the right', t => {
  const table = formatTable(
    [
      { title: 'name', of: (row: { name: string; n: number }) => row.name },
      { title: 'n', right: true, of: row => String(row.n) },
    ],
    [
      { name: 'a', n: 5 },
      { name: 'longer', n: 1000 },
    ],
  );
  t.is(table, 'name       n\na          5\nlonger  1000');
});

test('a cell that has lines in it is one line: who names a machine makes no rows', t => {
  const columns = [{ title: 'name', of: (row: string) => row }];
  t.is(formatTable(columns, ['web\n\nmode  enforce']), 'name\nweb\ufffd\ufffdmode  enforce');
});

test('a sentence is broken at words', t => {
  t.is(wrap('one two three', 8, '  '), '  one two\n  three');
});
