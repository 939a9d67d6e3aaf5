import { existsSync } from 'node:fs';
import test from 'ava';
import { decodeOutliers, layout } from '../../../src/agent/probes/outliers.ts';
import { structLayout } from '../../support/btf-layout.ts';

const object = new URL('../../../build/bpf/outliers.bpf.o', import.meta.url).pathname;
const withObject = existsSync(object) ? test : test.skip;
if (!existsSync(object)) console.error('# skipped: build/bpf/outliers.bpf.o is not built');

withObject("the decoder's layout is the one in the object's BTF", t => {
  const outlier = structLayout(object, 'outlier');
  t.is(layout.outlier.bytes as number, outlier.bytes);
  const {
    endedNs,
    latencyNs,
    throttledNs,
    startBoottimeNs,
    stackBytes,
    bytes: _,
    ...same
  } = layout.outlier;
  t.deepEqual(outlier.offsets, {
    ...same,
    ended_ns: endedNs,
    latency_ns: latencyNs,
    throttled_ns: throttledNs,
    start_boottime_ns: startBoottimeNs,
    stack_bytes: stackBytes,
  });
  const party = structLayout(object, 'party');
  const { cgroupId, tid, tgid, comm, bytes } = layout.party;
  t.is(bytes as number, party.bytes);
  t.deepEqual(party.offsets, { cgroup_id: cgroupId, tid, tgid, comm });
  const stats = structLayout(object, 'outlier_stats');
  const { bytes: statBytes, ...offsets }: Record<string, number> = layout.stats;
  t.is(statBytes, stats.bytes);
  t.deepEqual(offsets as unknown, stats.offsets);
});

test('nobody is null: a wait that no wake-up began, a CPU that was idle, a stack that could not be had', t => {
  const record = Buffer.alloc(layout.outlier.bytes);
  const { waiter, latencyNs, began, stackBytes } = layout.outlier;
  record.writeBigUInt64LE(20_000_000n, latencyNs);
  record.writeUInt32LE(7, waiter + layout.party.tid);
  record.write('worker', waiter + layout.party.comm);
  record.writeUInt32LE(1, began);
  record.writeInt32LE(-17, stackBytes);
  t.like(decodeOutliers(record)[0], {
    latencyNs: 20_000_000,
    waiter: { tid: 7, tgid: 0, name: 'worker', cgroupId: 0 },
    began: 'preempted',
    waker: null,
    preemptor: null,
    stack: [],
  });
});
