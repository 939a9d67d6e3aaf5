import test from 'ava';
import fc from 'fast-check';
import { formatCpuList, parseCpuList } from '../../src/linux/cpu-list.ts';

const parses = test.macro({
  exec: (t, text: string, cpus: number[] | null) => t.deepEqual(parseCpuList(text), cpus),
  title: (_, text) => `the list ${JSON.stringify(text)}`,
});

test(parses, '', []);
test(parses, '0\n', [0]);
test(parses, '0-3,8', [0, 1, 2, 3, 8]);
test(parses, '8,0-1,1', [0, 1, 8]);
test(parses, '3-1', null);
test(parses, 'all', null);
test(parses, '1-', null);
test(parses, '-1', null);
test(parses, '0-99999999', null);

test('what is written is read back, whatever the order', t => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 8191 }), { maxLength: 300 }), cpus => {
      t.deepEqual(
        parseCpuList(formatCpuList(cpus)),
        [...cpus].sort((a, b) => a - b),
      );
    }),
    { seed: 1 },
  );
});

test('any text is a list or null, and never an exception', t => {
  fc.assert(
    fc.property(fc.string(), text => {
      const cpus = parseCpuList(text);
      return cpus === null || parseCpuList(formatCpuList(cpus))?.length === cpus.length;
    }),
    { seed: 2 },
  );
  t.pass();
});

test('ranges are joined as the kernel does', t => {
  t.is(formatCpuList([5, 0, 1, 2, 7, 8]), '0-2,5,7-8');
  t.is(formatCpuList([]), '');
});
