import { join } from 'node:path';
import test from 'ava';
import { createForward } from '../../../src/agent/gate/forward.ts';
import { socketFolder } from '../../support/sockets.ts';

/** A sixteenth of what all guests together may have on the way. */
const request = Buffer.alloc(4_194_304);

test('what has had its answer makes room for others, be that answer that nobody is there', async t => {
  const forward = createForward(`unix://${join(socketFolder(t), 'nobody.sock')}`);
  t.teardown(forward.close);
  const sendAtOnce = async (count: number) => {
    const results = await Promise.all(
      Array.from({ length: count }, () => forward.send('metrics', request)),
    );
    t.true(results.every(({ kind }) => kind === 'retry'));
    return results.filter(
      result => 'reason' in result && /too much of guests is on the way/.test(result.reason),
    ).length;
  };
  t.is(await sendAtOnce(17), 1);
  t.is(await sendAtOnce(16), 0);
});
