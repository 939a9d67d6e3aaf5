import test from 'ava';
import fc from 'fast-check';
import { createLineReader } from '../../../src/agent/bpftrace/lines.ts';

const limits = { maxLineBytes: 100, maxBytesPerSecond: 1000 };

test('lines are the same however they are cut into chunks; blank ones are left out', t => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ maxLength: 20 }).filter(text => !/[^\x21-\x7e]/.test(text))),
      fc.array(fc.integer({ min: 1, max: 9 })),
      (texts, cuts) => {
        const read: string[] = [];
        const reader = createLineReader(limits, line => read.push(line));
        let rest = texts.map(text => `${text}\n`).join('');
        for (const cut of cuts) {
          reader.take(Buffer.from(rest.slice(0, cut)));
          rest = rest.slice(cut);
        }
        reader.take(Buffer.from(rest));
        t.deepEqual(
          read,
          texts.filter(text => text !== ''),
        );
      },
    ),
  );
});

test('a line that is too long is dropped to its end, and counted once', t => {
  const read: string[] = [];
  const reader = createLineReader(limits, line => read.push(line));
  for (let i = 0; i < 10; i += 1) reader.take(Buffer.from('x'.repeat(50)));
  reader.take(Buffer.from('\nnext\n'));
  t.deepEqual(read, ['next']);
  t.is(reader.tooLong(), 1);
});

test('past the bytes of a second the writer is to be held up until the next', t => {
  const reader = createLineReader(limits, () => undefined);
  t.true(reader.take(Buffer.alloc(999, 10)));
  t.false(reader.take(Buffer.alloc(500, 10)));
  t.false(reader.take(Buffer.alloc(1, 10)));
  t.is(reader.fullSeconds(), 1);
  reader.nextSecond();
  t.true(reader.take(Buffer.alloc(400, 10)));
  t.false(reader.take(Buffer.alloc(100, 10)));
  t.is(reader.fullSeconds(), 2);
});
