/** A monitor as QEMU's, with one drive that has read and written, and memory that is written to: `qemu-system-… fake-monitor.ts … -qmp unix:PATH,…`. */
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

const at = process.argv.indexOf('-qmp');
const path = (process.argv[at + 1] ?? '').replace(/^unix:/, '').split(',')[0];
const stats = {
  ...{ rd_bytes: 4096, rd_operations: 1, rd_total_time_ns: 1000 },
  ...{ wr_bytes: 8192, wr_operations: 2, wr_total_time_ns: 2000 },
  ...{
    flush_operations: 1,
    flush_total_time_ns: 500,
    unmap_bytes: 0,
    unmap_operations: 0,
    unmap_total_time_ns: 0,
  },
};
const answers: Record<string, unknown> = {
  qmp_capabilities: {},
  'query-blockstats': [{ device: 'drive0', qdev: '/machine/peripheral/disk0', stats }],
  'query-cpus-fast': [{ 'cpu-index': 0, 'thread-id': process.pid }],
  'query-dirty-rate': { status: 'measured', 'start-time': 1, 'calc-time': 1, 'dirty-rate': 8 },
  'calc-dirty-rate': {},
};
createServer(socket => {
  socket.on('error', () => undefined);
  socket.write('{"QMP": {"version": {}, "capabilities": []}}\r\n');
  // Who asked may end in the middle of an answer.
  createInterface({ input: socket })
    .on('error', () => socket.destroy())
    .on('line', line => {
      const { execute, id } = JSON.parse(line) as { execute: string; id?: string };
      socket.write(`${JSON.stringify({ return: answers[execute], id })}\r\n`);
    });
}).listen(path, () => console.log('listens'));
// Ends with who started it.
process.stdin.on('end', () => process.exit(0)).resume();
