import test, { type ExecutionContext } from 'ava';
import { type AskDomains, createLibvirtTurns } from '../../../src/agent/vms/libvirt-turns.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const domain = (i: number) => ({ uuid: `uuid-${i}`, name: `vm${i}` });
const settled = () => new Promise(setImmediate);

function start(t: ExecutionContext, ask?: AskDomains) {
  const clock = steppedClock();
  const runs: { at: number; domains: number }[] = [];
  const turns = createLibvirtTurns(
    clock,
    () => 10,
    async domains => {
      runs.push({ at: clock.monotonicSeconds(), domains: domains.length });
      return ask ? await ask(domains) : new Map(domains.map(({ uuid }) => [uuid, { drives: [] }]));
    },
  );
  t.teardown(turns.stop);
  const pass = async (seconds: number) => {
    for (let i = 0; i < seconds; i += 1) {
      clock.step(1);
      await settled();
    }
  };
  return { turns, runs, pass };
}

test('all who wait are asked at once, and libvirt once in an interval', async t => {
  const { turns, runs, pass } = start(t);
  const answers = [turns.ask(domain(1)), turns.ask(domain(2))];
  await pass(3);
  t.deepEqual(await Promise.all(answers), [{ drives: [] }, { drives: [] }]);
  void turns.ask(domain(3));
  await pass(4);
  void turns.ask(domain(4));
  await pass(10);
  t.deepEqual(runs, [
    { at: 1, domains: 2 },
    { at: 11, domains: 2 },
  ]);
});

test('libvirt is left alone while nobody waits', async t => {
  const { runs, pass } = start(t);
  await pass(100);
  t.deepEqual(runs, []);
});

test('more than fit into a question wait for the next', async t => {
  const { turns, runs, pass } = start(t);
  for (let i = 0; i < 501; i += 1) void turns.ask(domain(i));
  await pass(11);
  t.deepEqual(
    runs.map(({ domains }) => domains),
    [500, 1],
  );
});

test('one question is under way at a time', async t => {
  const { turns, runs, pass } = start(t, () => new Promise(() => undefined));
  void turns.ask(domain(1));
  await pass(1);
  void turns.ask(domain(2));
  await pass(60);
  t.is(runs.length, 1);
});

test('who was not reached is told apart from who could not be asked', async t => {
  const none = start(t, async () => new Map());
  const missed = none.turns.ask(domain(1));
  await none.pass(1);
  t.is(await missed, null);
  const broken = start(t, async () => {
    throw new Error('spawn setpriv ENOENT');
  });
  const refused = broken.turns.ask(domain(1));
  await broken.pass(1);
  t.deepEqual(await refused, { why: 'libvirt_silent', detail: 'spawn setpriv ENOENT' });
});
