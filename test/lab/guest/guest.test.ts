import { existsSync } from 'node:fs';
import { needsLab } from '../needs-lab.ts';
import { withGuest } from './guest.ts';

const guestTest = needsLab();

guestTest('a small guest boots on this machine and ticks by its own clock', async t => {
  let tgid = 0;
  await withGuest({ workload: 'ticking,50+dirtying,32,500' }, async guest => {
    ({ tgid } = guest);
    t.log(`its workload had begun after ${guest.bootSeconds.toFixed(1)} s`);
    await guest.console.waitFor(/^TICK 20 at/, 20);
    await guest.console.waitFor(/^DIRTIED \d+ pages at/, 20);
    t.true(existsSync(`/proc/${tgid}`));
  });
  t.false(existsSync(`/proc/${tgid}`));
});

guestTest(
  'a guest that cannot do its work is told with its last lines, and nothing of it stays',
  async t => {
    const error = await t.throwsAsync(withGuest({ workload: 'sleeping' }, async () => undefined));
    t.regex(error.message, /the guest ended by itself(.*\n)*.*sleeping did not begin/);
  },
);

guestTest('a test that fails ends its guest', async t => {
  let tgid = 0;
  const error = await t.throwsAsync(
    withGuest({}, async guest => {
      ({ tgid } = guest);
      throw new Error('on purpose');
    }),
  );
  t.regex(error.message, /^on purpose\nthe guest's last lines:\n(.*\n)*.*READY/);
  t.false(existsSync(`/proc/${tgid}`));
});
