import test from 'ava';
import fc from 'fast-check';
import { createShares } from '../../../src/agent/gate/shares.ts';

const most = 1024;
const holders = 16;
/** What each of them may have whatever the others do. */
const little = most / 2 / holders;

const steps = fc.array(
  fc.record({
    nth: fc.nat(holders - 1),
    amount: fc.oneof(fc.nat(little), fc.nat(most)),
    gives: fc.boolean(),
  }),
  { minLength: 1, maxLength: 200 },
);

test('together they never hold too much, and who holds little always has room', t => {
  fc.assert(
    fc.property(steps, taken => {
      const open = createShares(most, holders);
      const all = Array.from({ length: holders }, () => ({ share: open(), held: [0].slice(1) }));
      const sum = (held: readonly number[]) => held.reduce((a, b) => a + b, 0);
      for (const { nth, amount, gives } of taken) {
        const one = all[nth];
        if (!one) throw new Error('no such holder');
        const given = gives ? one.held.pop() : undefined;
        if (given !== undefined) one.share.giveBack(given);
        else if (one.share.take(amount)) one.held.push(amount);
        else t.true(sum(one.held) + amount > little);
        t.true(sum(all.flatMap(({ held }) => held)) <= most);
      }
    }),
    { numRuns: 1000 },
  );
});

test('of those that take what they can each new one has less, and some is left for the next', t => {
  const open = createShares(most, holders);
  const takeAll = (): number => {
    const { take } = open();
    let held = 0;
    while (take(1)) held += 1;
    return held;
  };
  t.deepEqual([takeAll(), takeAll(), takeAll(), takeAll(), takeAll()], [256, 128, 64, 32, 32]);
});

test('where there are more of them than there may be, they hold no more together for it', t => {
  const open = createShares(100, 1);
  t.deepEqual(
    [25, 50, 50, 25].map(amount => open().take(amount)),
    [true, true, false, true],
  );
});
