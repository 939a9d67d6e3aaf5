import test from 'ava';
import { createArrivalWatch } from '../../src/agent/arrival-watch.ts';
import { steppedClock } from '../support/stepped-clock.ts';

const lost = 'warn: agent: what is told does not arrive at unix:///run/nobody.sock: UNAVAILABLE';
const found = 'info: agent: what is told arrives at unix:///run/nobody.sock again';

function watch() {
  const clock = steppedClock();
  const said: string[] = [];
  let failure: string | null = null;
  const look = createArrivalWatch({
    endpoint: 'unix:///run/nobody.sock',
    lastFailure: () => failure,
    clock,
    say: (level, text) => void said.push(`${level}: ${text}`),
  });
  const pass = (seconds: number, why: string | null) => {
    failure = why;
    for (let i = 0; i < seconds; i++) {
      look();
      clock.step(1);
    }
    return said.splice(0);
  };
  return { pass };
}

test('an endpoint that takes nothing is said at once and every ten minutes, and so is when it does again', t => {
  const { pass } = watch();
  t.deepEqual(pass(60, null), []);
  t.deepEqual(pass(600, 'UNAVAILABLE'), [lost]);
  t.deepEqual(pass(3000, 'UNAVAILABLE'), Array(5).fill(lost));
  t.deepEqual(pass(60, null), [found]);
});

test('one that comes and goes is said once a minute', t => {
  const { pass } = watch();
  const said = Array.from({ length: 60 }, () => [...pass(1, 'UNAVAILABLE'), ...pass(1, null)]);
  t.deepEqual(said.flat(), [lost, found, lost, found]);
});
