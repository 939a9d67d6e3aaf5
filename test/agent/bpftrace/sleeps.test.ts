import test from 'ava';
import { createSleeps } from '../../../src/agent/bpftrace/sleeps.ts';

const later = 2 ** 40;

/** A script of one cgroup whose tasks sleep for the last reason: what it counts, and prints. */
function scene() {
  const sleeps = createSleeps();
  let [fell, woke, time] = [0, 0, 0];
  const did = () =>
    sleeps.take({
      type: 'map',
      name: 'did',
      entries: [
        ['7,0', 5],
        ['7,11', fell],
        ['7,15', woke],
      ],
    });
  const slept = () => sleeps.take({ type: 'map', name: 'slept', entries: [['7,3', time]] });
  const us = (now: number) => sleeps.take({ type: 'map', name: 'us', entries: [[null, now]] });
  return {
    sleeps,
    did,
    slept,
    us,
    fall: (at: number) => {
      fell += 1;
      time -= at + later;
    },
    wake: (at: number) => {
      woke += 1;
      time += at + later;
    },
    print: (now: number) => {
      did();
      slept();
      us(now);
    },
    restart: () => {
      sleeps.begin();
      [fell, woke, time] = [0, 0, 0];
    },
    seconds: () => (sleeps.all().get('7,3') ?? 0) / 1e9,
  };
}

const second = 1e6;

test('who sleeps is charged while the sleep lasts, and once', t => {
  const { fall, wake, print, seconds } = scene();
  print(50 * second);
  t.is(seconds(), 0);
  fall(100 * second);
  fall(100 * second);
  print(110 * second);
  t.is(seconds(), 20);
  print(120 * second);
  t.is(seconds(), 40);
  wake(121 * second);
  print(130 * second);
  t.is(seconds(), 51);
  wake(130 * second);
  print(140 * second);
  t.is(seconds(), 51);
});

test('who falls asleep or wakes between the prints of two maps makes no difference', t => {
  const { fall, wake, did, slept, us, print, seconds } = scene();
  fall(100 * second);
  print(110 * second);
  t.is(seconds(), 10);
  // It is counted as a sleeper, and woke a moment later.
  did();
  wake(120 * second);
  slept();
  us(120 * second);
  t.is(seconds(), 20);
  // Ten of whom nothing is known but that they fell asleep.
  did();
  for (let i = 0; i < 10; i += 1) fall(130 * second);
  slept();
  us(130 * second);
  t.is(seconds(), 20);
  print(131 * second);
  t.is(seconds(), 30);
});

test('a run that begins anew knows of no sleeper, and what was told stays; a cgroup that is gone is dropped', t => {
  const { fall, print, restart, seconds, sleeps } = scene();
  fall(100 * second);
  print(110 * second);
  restart();
  print(200 * second);
  t.is(seconds(), 10);
  fall(200 * second);
  print(205 * second);
  t.is(seconds(), 15);
  sleeps.drop([8]);
  t.is(seconds(), 15);
  sleeps.drop([7]);
  t.is(seconds(), 0);
  print(206 * second);
  t.is(seconds(), 1);
});
