import test from 'ava';
import { createBpfAccount } from '../../src/linux/bpf-account.ts';
import type { BpfObject, Native } from '../../src/linux/native.ts';
import { keyOf, sumsOf } from '../support/map-sums.ts';

/** An addon whose objects have so much memory and one program, which has run so often; its methods cannot be assigned to, as the real one's. */
function fakeNative(objects: Readonly<Record<string, { bytes: number; runs: number }>>): Native {
  const sums = sumsOf([[keyOf(1), Buffer.alloc(8)]]);
  const loadObject = (path: string): BpfObject => {
    let isClosed = false;
    const of = () => {
      const found = objects[path];
      if (isClosed || !found) throw new Error('closed');
      return found;
    };
    const object: Partial<BpfObject> = Object.freeze({
      memoryBytes: () => of().bytes,
      programStats: () => ({ one: { runs: of().runs, runNs: of().runs * 100, missed: 0 } }),
      readSums: () => ({ ...sums, count: of().runs, maxEntries: 64 }),
      readWord: (_map, word) => ({
        ...sums,
        count: word,
        maxEntries: 64,
        cpus: 1,
        words: sums.sums,
      }),
      close: () => {
        isClosed = true;
      },
    });
    return Object.create(object);
  };
  return { loadObject } as unknown as Native;
}

test('what is loaded is in the account until it is closed; its runs stay', t => {
  const objects = { a: { bytes: 1000, runs: 5 }, b: { bytes: 30, runs: 2 } };
  const account = createBpfAccount(fakeNative(objects));
  t.deepEqual(account.cost(), { memoryBytes: 0, runs: 0, runNs: 0 });
  const a = account.native.loadObject('a', {});
  account.native.loadObject('b', {});
  t.deepEqual(account.cost(), { memoryBytes: 1030, runs: 7, runNs: 700 });
  objects.a.runs = 9;
  a.close();
  t.deepEqual(account.cost(), { memoryBytes: 30, runs: 11, runNs: 1100 });
  a.close();
  account.native.loadObject('b', {});
  t.deepEqual(account.cost(), { memoryBytes: 60, runs: 13, runNs: 1300 });
});

test('how full maps are is known of those that were read, as of the last time', t => {
  const objects = { a: { bytes: 0, runs: 5 } };
  const { native, fills } = createBpfAccount(fakeNative(objects));
  const object = native.loadObject('a', {});
  t.deepEqual(fills(), []);
  t.is(object.readSums('instances').count, 5);
  objects.a.runs = 6;
  t.deepEqual(fills(), [{ map: 'instances', entries: 5, maxEntries: 64 }]);
  object.readSums('instances');
  t.deepEqual(fills(), [{ map: 'instances', entries: 6, maxEntries: 64 }]);
  t.is(object.readWord('instances', 3).count, 3, 'it is asked for what the caller asks for');
  t.deepEqual(fills(), [{ map: 'instances', entries: 3, maxEntries: 64 }]);
  object.close();
  t.deepEqual(fills(), []);
});
