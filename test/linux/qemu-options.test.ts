import test from 'ava';
import { growsWhenRead } from '../../src/linux/qemu-options.ts';

const grows = test.macro({
  exec: (t, expected: boolean, ...args: string[]) => {
    t.is(growsWhenRead(['qemu-system-x86_64', '-m', '1G', ...args]), expected);
  },
  title: title => `memory that grows when it is read: ${title}`,
});
const json = (object: object) => JSON.stringify({ 'qom-type': 'memory-backend-memfd', ...object });

test('private memory does not', grows, false);
test('private memory of an object does not', grows, false, '-object', 'memory-backend-ram,id=m');
test('shared memory does', grows, true, '-object', 'memory-backend-ram,id=m,share=on');
test('a memfd does', grows, true, '-object', 'memory-backend-memfd,id=m,size=1G');
test('as QEMU writes it too', grows, true, '-object', 'qom-type=memory-backend-memfd,id=m');
test('made beforehand', grows, false, '-object', 'memory-backend-memfd,id=m,prealloc=on');
test('huge pages do', grows, true, '-mem-path', '/dev/hugepages');
test('huge pages made beforehand', grows, false, '-mem-path', '/dev/hugepages', '-mem-prealloc');
test("libvirt's does", grows, true, '-object', json({ id: 'ram-node0', size: 1 << 30 }));
test("libvirt's made beforehand", grows, false, '-object', json({ id: 'm', prealloc: true }));
test('another object', grows, false, '-object', 'iothread,id=memory-backend-memfd');
