import { dirname } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Tree } from '../../linux/tree.ts';
import { host, link, start, tap, untold } from '../support/tap-host.ts';

/** A macvtap that process 50 holds as descriptor 21. Its device is /dev/null, a character device that every machine has: 1:3. */
function macvtap(t: ExecutionContext, files: Record<string, string> = {}): Tree {
  const tree = host(t, { 'proc/50/fdinfo/21': 'pos:\t0\nflags:\t0102002', 'dev/': '', ...files });
  link(tree, {
    'dev/tap4': '/dev/null',
    'proc/50/fd/21': `${dirname(tree.proc)}/dev/tap4`,
    'sys/dev/char/1:3': '../../devices/virtual/net/macvtap0/macvtap/tap4',
  });
  return tree;
}

const inOurs = { 'sys/devices/virtual/net/macvtap0/macvtap/tap4/dev': '1:3' };

test("a macvtap is the VM's own end: what it receives the VM receives", t => {
  const tree = macvtap(t, { ...inOurs, ...tap('macvtap0', 10, 20) });
  const { read, told } = start(t, tree);
  read();
  tree.write(tap('macvtap0', 15, 120));
  read();
  t.deepEqual(told(), {
    'container.network.io receive macvtap0': 500,
    'container.network.io transmit macvtap0': 10_000,
    'sculptor.network.interface.packets receive macvtap0': 5,
    'sculptor.network.interface.packets transmit macvtap0': 100,
    'sculptor.network.interface.dropped receive macvtap0': 0,
    'sculptor.network.interface.dropped transmit macvtap0': 0,
  });
});

test('a macvtap of a VM in another network namespace is looked for in ours first, as libvirt has it', t => {
  const elsewhere = {
    'proc/50/ns/net': 'theirs',
    'proc/self/ns/net': 'ours',
    'proc/50/net/dev': '  macvtap0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0',
    ...tap('macvtap0', 10, 20),
  };
  const moves: [Record<string, string>, number][] = [
    [inOurs, 500],
    [{}, 70],
  ];
  for (const [ours, received] of moves) {
    const tree = macvtap(t, { ...elsewhere, ...ours });
    const { read, told } = start(t, tree);
    read();
    const theirs = '  macvtap0: 170 2 0 0 0 0 0 0 200 2 0 0 0 0 0 0';
    tree.write({ ...tap('macvtap0', 15, 20), 'proc/50/net/dev': theirs });
    read();
    t.is(told()['container.network.io receive macvtap0'], received);
  }
});

test('a macvtap that is neither in our namespace nor in that of its VM is not told, whatever bears its name here', t => {
  const { source, read, told } = start(t, macvtap(t, tap('macvtap0', 10, 20)));
  read();
  t.deepEqual(told(), {});
  t.deepEqual(untold(source), { 'sculptor.agent.interfaces.unknown third_namespace': 1 });
});

test('what only is called like the device of a macvtap is none', t => {
  const tree = host(t, {
    'proc/50/fdinfo/21': 'pos:\t0',
    'proc/50/fdinfo/22': 'pos:\t0',
    'dev/tap4': 'a file',
    ...tap('macvtap0', 1, 1),
  });
  link(tree, {
    'dev/tap5': '/dev/null',
    'proc/50/fd/21': `${dirname(tree.proc)}/dev/tap4`,
    'proc/50/fd/22': `${dirname(tree.proc)}/dev/tap5`,
    'sys/dev/char/1:3': '../../devices/virtual/mem/null',
  });
  const { source, read, told } = start(t, tree);
  read();
  t.deepEqual(told(), {});
  t.deepEqual(untold(source), {});
});

test('a VM with interfaces that the host cannot see is counted, by reason, while it is there', t => {
  const args = ['-netdev', 'vhost-user,id=n0,chardev=c0'];
  const { source, living, read } = start(t, host(t, { 'proc/50/fdinfo/3': 'pos:\t0' }, args));
  t.deepEqual(untold(source), {});
  read();
  t.is(living.instance.name, 'web');
  t.deepEqual(untold(source), { 'sculptor.agent.interfaces.unknown vhost_user': 1 });
  source.read([]);
  t.deepEqual(untold(source), {});
});

test('where there are macvtaps, a VM whose open devices may not be asked is counted', t => {
  const tree = host(t, { 'proc/50/fdinfo/3': 'pos:\t0', 'sys/class/macvtap/tap4': '' });
  const { source, read } = start(t, tree);
  read();
  t.deepEqual(untold(source), { 'sculptor.agent.interfaces.unknown devices_refused': 1 });
});

test('one whose descriptors may not be read is counted too', t => {
  const { source, read } = start(t, host(t, {}));
  read();
  t.deepEqual(untold(source), { 'sculptor.agent.interfaces.unknown descriptors_refused': 1 });
});
