import { existsSync } from 'node:fs';
import test from 'ava';
import { entriesOf } from '../../../src/agent/probes/sums.ts';
import { decodeUdp, layout, startUdpProbe } from '../../../src/agent/probes/udp.ts';
import type { BpfObject, Native } from '../../../src/linux/native.ts';
import { structLayout } from '../../support/btf-layout.ts';
import { keyOf, sumsOf } from '../../support/map-sums.ts';

const object = new URL('../../../build/bpf/udp.bpf.o', import.meta.url).pathname;
const withObject = existsSync(object) ? test : test.skip;
if (!existsSync(object)) console.error('# skipped: build/bpf/udp.bpf.o is not built');
const withProbe = existsSync('/sys/kernel/btf/vmlinux') ? withObject : test.skip;
if (!existsSync('/sys/kernel/btf/vmlinux')) console.error('# skipped: no BTF of the kernel');

/** `receivedBytes` as the kernel's code has it: `received_bytes`. */
const inC = (fields: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(
    Object.entries(fields).map(([name, at]) => [
      name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`),
      at,
    ]),
  );

for (const [part, struct] of [
  ['totals', 'udp_totals'],
  ['stats', 'udp_stats'],
] as const)
  withObject(`the decoder's layout of ${part} is the one in the object's BTF`, t => {
    const { bytes, ...offsets } = layout[part];
    t.deepEqual({ bytes, offsets: inC(offsets) }, structLayout(object, struct));
  });

/** What was counted of one cgroup. */
function value(sentBytes: number, receivedPackets: number): Buffer {
  const bytes = Buffer.alloc(layout.totals.bytes);
  bytes.writeBigUInt64LE(BigInt(sentBytes), layout.totals.sentBytes);
  bytes.writeBigUInt64LE(BigInt(receivedPackets), layout.totals.receivedPackets);
  return bytes;
}

test('an entry is one cgroup; of two answers for it the later one holds', t => {
  const totals = decodeUdp(
    entriesOf(
      sumsOf([
        [keyOf(42), value(1, 0)],
        [keyOf(43), value(2 ** 40 + 5, 3)],
        [keyOf(42), value(7, 7)],
      ]),
    ),
  );
  t.deepEqual(
    [...totals],
    [
      [42, { receivedBytes: 0, sentBytes: 7, receivedPackets: 7, sentPackets: 0 }],
      [43, { receivedBytes: 0, sentBytes: 2 ** 40 + 5, receivedPackets: 3, sentPackets: 0 }],
    ],
  );
});

const refusing = (code: string): Native =>
  ({
    loadObject: () => {
      throw Object.assign(new Error(`load: ${code}`), { code, log: 'PROG LOAD LOG' });
    },
  }) as unknown as Native;

withProbe(
  'a kernel before 6.3 is said to lack the hooks; what else it refuses is something else',
  t => {
    const options = { cgroupV1: false, maxInstances: 16 };
    t.throws(() => startUdpProbe({ ...options, native: refusing('ESRCH') }), {
      code: 'KERNEL_MISSING',
      message: /sock_send_length and sock_recv_length came with Linux 6\.3/,
    });
    t.throws(() => startUdpProbe({ ...options, native: refusing('EINVAL') }), {
      code: 'PROBE_LOAD',
    });
  },
);

withProbe('what was not counted is told by reason', t => {
  const stats = new Float64Array(layout.stats.bytes / 8);
  stats[layout.stats.lostInstanceFull / 8] = 7;
  stats[layout.stats.lostInstanceMemory / 8] = 5;
  const loaded: Partial<BpfObject> = {
    attach: () => undefined,
    lookupSums: () => stats,
    programStats: () => ({
      sock_send_length: { runs: 0, runNs: 0, missed: 1 },
      sock_recv_length: { runs: 0, runNs: 0, missed: 1 },
    }),
  };
  const native = { loadObject: () => loaded } as unknown as Native;
  const probe = startUdpProbe({ native, cgroupV1: false, maxInstances: 16 });
  t.deepEqual(probe.lost(), { map_full: 7, memory: 5, recursion: 2 });
});
