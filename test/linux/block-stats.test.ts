import test from 'ava';
import { parseBlockStats } from '../../src/linux/block-stats.ts';

const stats = {
  rd_bytes: 4096,
  rd_operations: 1,
  rd_total_time_ns: 1000,
  wr_bytes: 0,
  wr_operations: 0,
  wr_total_time_ns: 0,
  flush_operations: 2,
  flush_total_time_ns: 3000,
  invalid_rd_operations: 0,
};

test('a drive has the name of its -drive, else that of the device in the guest', t => {
  const answer = [
    { device: 'system', qdev: '/machine/peripheral-anon/device[0]/virtio-backend', stats },
    { device: '', 'node-name': 'n0', qdev: '/machine/peripheral/data/virtio-backend', stats },
    { 'node-name': 'n1', qdev: 'scratch', stats },
  ];
  t.deepEqual(
    parseBlockStats(answer).map(({ name }) => name),
    ['system', 'data', 'scratch'],
  );
});

test('counters are by direction; a QEMU that counts no discards has had none', t => {
  t.deepEqual(parseBlockStats([{ device: 'a', stats }])[0]?.counters, {
    read: { bytes: 4096, operations: 1, timeNs: 1000 },
    write: { bytes: 0, operations: 0, timeNs: 0 },
    flush: { bytes: 0, operations: 2, timeNs: 3000 },
    discard: { bytes: 0, operations: 0, timeNs: 0 },
  });
});

test('an empty tray, and a node that no guest has, are no drives', t => {
  const unused = { ...stats, rd_operations: 0, flush_operations: 0 };
  t.deepEqual(
    parseBlockStats([
      { device: 'cd0', stats: unused },
      { 'node-name': 'n', stats },
    ]),
    [],
  );
});

test('another answer is refused, and says what was wrong', t => {
  const wrong = [{ device: 'a', stats: { ...stats, rd_bytes: 'many' } }];
  t.throws(() => parseBlockStats(wrong), {
    code: 'QMP_UNAVAILABLE',
    message: /query-blockstats answered something else: [\s\S]*rd_bytes/,
  });
});

test('a name as long as a page is refused', t => {
  for (const field of ['device', 'qdev'])
    t.throws(() => parseBlockStats([{ [field]: 'a'.repeat(257), stats }]), {
      code: 'QMP_UNAVAILABLE',
    });
  t.is(parseBlockStats([{ device: 'a'.repeat(256), stats }]).length, 1);
});
