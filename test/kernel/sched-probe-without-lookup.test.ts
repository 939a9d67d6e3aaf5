import { setTimeout as pause } from 'node:timers/promises';
import test from 'ava';
import { loadNative, type Native } from '../../src/linux/native.ts';
import { needs } from '../support/needs.ts';
import {
  endAll,
  makeBox,
  near,
  read,
  readDetails,
  spin,
  startPinned,
  startProbe,
} from '../support/sched-scene.ts';

const kernelTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu');
test.afterEach.always(endAll);

/** As a kernel before 6.2: it finds no task by its tid. Tells how often all tasks were looked at to charge them. */
function withoutLookup() {
  const native = loadNative();
  let looks = 0;
  const blind: Native = {
    ...native,
    loadObject: (path, options) => {
      const object = native.loadObject(path, options);
      return new Proxy(object, {
        get: (_, name: keyof typeof object) => {
          if (name === 'runOnce')
            return (program: string) =>
              program === 'dump_changed' ? Buffer.alloc(0) : object.runOnce(program);
          if (name === 'iterate')
            return (program: string) => {
              if (program === 'flush') looks += 1;
              return object.iterate(program);
            };
          const member = object[name];
          return typeof member === 'function' ? member.bind(object) : member;
        },
      });
    },
  };
  return { native: blind, looks: () => looks };
}

kernelTest(
  'where no task is found by its tid, all are charged once a second, and with details',
  async t => {
    const { native, looks } = withoutLookup();
    const box = makeBox();
    await startPinned(box, 1, ...spin);
    const probe = startProbe({ native });
    await pause(1000);
    const from = read(probe, box);
    const before = looks();
    for (let i = 0; i < 20; i += 1) {
      await pause(100);
      probe.readTotals();
    }
    const looked = looks() - before;
    t.true(looked === 1 || looked === 2, `${looked} looks at all in two seconds`);
    const { at } = readDetails(probe, box);
    const { totals } = read(probe, box);
    near(
      t,
      (totals.runNs - from.totals.runNs) / 1e9,
      at - from.at,
      0.05,
      'of one that is never switched',
    );
  },
);
