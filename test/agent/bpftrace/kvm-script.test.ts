import test from 'ava';
import {
  createPlaces,
  decodeVcpuSums,
  startKvmScript,
} from '../../../src/agent/bpftrace/kvm-script.ts';
import { makeTree } from '../../linux/tree.ts';
import { lossesOf, stagedScript } from '../support/staged-script.ts';

const losses = lossesOf({ map_full: 1 });

type Maps = Readonly<Record<string, Readonly<Record<string, number>>>>;

const sumsOf = (maps: Maps) => (map: string) => new Map(Object.entries(maps[map] ?? {}));

test('the maps of the script are the totals of each vCPU thread, by slot', t => {
  const vcpus = decodeVcpuSums(
    sumsOf({
      exits: { '50,100,7,33,0,2,120': 5, '50,100,7,33,0,2,168': 1, '50,101,7,33,1,2,120': 2 },
      handled: { '50,100,7,120': 1e9, '50,100,7,168': 1e8 },
      halted: { '50,100,7': 2e9 },
      halts: { '50,100,7': 3 },
      late: { '50,100,7': 5e8 },
      wakeups: { '50,100,7': 2 },
    }),
    createPlaces(),
  );
  t.deepEqual(vcpus, [
    {
      cgroupId: 33,
      tgid: 50,
      tid: 100,
      startTicks: 7,
      index: 0,
      isa: 'svm',
      haltNs: 2e9,
      halts: 3,
      wakeupNs: 5e8,
      wakeups: 2,
      exits: new Map([
        [120, { count: 5, handledNs: 1e9 }],
        [168, { count: 1, handledNs: 1e8 }],
      ]),
    },
    {
      cgroupId: 33,
      tgid: 50,
      tid: 101,
      startTicks: 7,
      index: 1,
      isa: 'svm',
      haltNs: 0,
      halts: 0,
      wakeupNs: 0,
      wakeups: 0,
      exits: new Map([[120, { count: 2, handledNs: 0 }]]),
    },
  ]);
});

test('a thread that is moved is told of the cgroup in which it exits now, with all that it did before', t => {
  const places = createPlaces();
  const read = (exits: Record<string, number>) => decodeVcpuSums(sumsOf({ exits }), places)[0];
  t.is(read({ '50,100,7,33,0,1,12': 900 })?.cgroupId, 33);
  const moved = read({ '50,100,7,33,0,1,12': 901, '50,100,7,44,0,1,12': 5 });
  t.is(moved?.cgroupId, 44);
  t.is(moved?.isa, 'vmx');
  t.deepEqual(moved?.exits, new Map([[12, { count: 906, handledNs: 0 }]]));
  // It does nothing.
  t.is(read({ '50,100,7,33,0,1,12': 901, '50,100,7,44,0,1,12': 5 })?.cgroupId, 44);
  // An autogroup is the root's.
  t.is(
    read({ '50,100,7,33,0,1,12': 901, '50,100,7,44,0,1,12': 5, '50,100,7,0,0,1,12': 9 })?.cgroupId,
    1,
  );
});

test('threads that have ended are told no more, nor what another one of that tid was', t => {
  const stat = (ticks: number) =>
    `1 (CPU 0/KVM) ${Array.from({ length: 50 }, (_, i) => (i === 19 ? ticks : 0)).join(' ')}`;
  const roots = makeTree(t, {
    'sys/module/kvm_amd/refcnt': '1',
    'proc/100/stat': stat(7),
    'proc/101/stat': stat(900),
  });
  const { context, print } = stagedScript({ losses, roots });
  const probe = startKvmScript(context);
  const exits = {
    '50,100,7,33,0,2,120': 5,
    '50,101,8,33,1,2,120': 2,
    '50,102,8,33,1,2,120': 2,
  };
  print('exits', exits);
  t.deepEqual(
    probe.read().map(({ tid }) => tid),
    [100],
  );
  print('exits', { ...exits, '50,101,900,33,1,2,120': 1 });
  t.deepEqual(
    probe.read().map(({ tid, startTicks }) => [tid, startTicks]),
    [
      [100, 7],
      [101, 900],
    ],
  );
  t.deepEqual(probe.lost(), losses);
});

test('where KVM is not loaded it is refused, and looked for again', t => {
  const { context, runs } = stagedScript({ roots: makeTree(t, { 'sys/module/loop/refcnt': '0' }) });
  const error = t.throws(() => startKvmScript(context));
  t.like(error, { code: 'KERNEL_MISSING' });
  t.regex(error?.message ?? '', /KVM is not loaded/);
  t.deepEqual(runs, []);
});
