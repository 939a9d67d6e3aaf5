import test from 'ava';
import { createDiskBook } from '../../../src/agent/block/disk-book.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { blockWords } from '../../../src/agent/probes/block.ts';

const living = {} as LivingInstance;

/** Takes reads of devices, a reading at a time, and tells what each is told to have had. */
function startBook() {
  const book = createDiskBook();
  const take = (reads: Readonly<Record<string, number>>): void =>
    book.take(
      Object.entries(reads).map(([device, count]) => {
        const words = new Float64Array(blockWords.end);
        words[blockWords.operations] = count;
        return { living, device, direction: 'read', words };
      }),
    );
  const told = (): Record<string, number> =>
    Object.fromEntries(
      book
        .of(living)
        .map(({ device, sums }) => [device, sums.get('read')?.[blockWords.operations] ?? 0]),
    );
  return { take, told };
}

test('a device that comes back among many others goes on where it was: nothing falls, nothing counts twice', t => {
  const { take, told } = startBook();
  const highest = new Map<string, number>();
  let taken = 0;
  const step = (reads: Readonly<Record<string, number>>): void => {
    take(reads);
    taken += Object.values(reads).reduce((sum, n) => sum + n, 0);
    for (const [device, count] of Object.entries(told())) {
      t.true(count >= (highest.get(device) ?? 0), `${device} fell to ${count}`);
      highest.set(device, count);
    }
    t.is(
      [...highest.values()].reduce((sum, n) => sum + n, 0),
      taken,
    );
  };
  step({ sda: 1000 });
  for (let i = 0; i < 80; i += 1) step({ [`d${i}`]: 100, [`e${i}`]: 50 });
  step({ sda: 10_000 });
  t.is(told()['sda'], 11_000);
  step({ late: 100_000 });
  t.is(told()['late'], undefined, 'as many as are known were named already');
});

test('many devices that are never among the busiest take nobody’s place', t => {
  const { take, told } = startBook();
  const busy = { a: 1000, b: 1000, c: 1000, d: 1000 };
  for (let i = 0; i < 80; i += 1) take({ ...busy, [`d${i}`]: 1 });
  take({ new: 100_000 });
  t.is(told()['new'], 100_000);
  t.is(told()['other'], 80);
});

test('a device that rests for a reading keeps its name, and loses it when others are busier for long', t => {
  const { take, told } = startBook();
  take({ a: 1000, b: 1000, c: 1000, d: 1000 });
  take({ e: 100 });
  t.deepEqual(told(), { a: 1000, b: 1000, c: 1000, d: 1000, other: 100 });
  for (let i = 0; i < 4; i += 1) take({ e: 100 });
  t.is(told()['e'], 300);
  t.is(told()['other'], 200);
});
