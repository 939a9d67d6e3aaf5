import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { createProfiles, type DetailReading } from '../../src/agent/profiles.ts';

test('of a long window few readings are kept, and it is at most a little longer than asked for', async t => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const profiles = createProfiles('h', { profileWindowSeconds: 600, readIntervalSeconds: 0.2 });
  const living = { instance: { id: '/a', kind: 'cgroup', name: 'a' }, start: 0 } as never;
  const refs: WeakRef<DetailReading>[] = [];
  for (let time = 10; time <= 2000; time += 10) {
    const sample = { metric: 'container.cpu.time', start: 0, value: time / 2 } as const;
    const reading = { time, samples: new Map([[living, [sample]]]) };
    refs.push(new WeakRef(reading));
    profiles.take(reading);
    if (time < 800) continue;
    const profile = profiles.of('/a');
    const seconds = profile?.windowSeconds ?? 0;
    t.true(seconds >= 600 && seconds <= 710, `${seconds} s`);
    const series = profile?.series[0];
    t.is(series?.type === 'counter' ? series.perSecond : null, 0.5);
  }
  await turn();
  collect();
  t.true(refs.filter(ref => ref.deref() !== undefined).length <= 8);
});
