import test from 'ava';
import { host, start, tap, tun } from '../support/tap-host.ts';

test("a VM's traffic is its tap's the other way round, from when the tap was first seen", t => {
  const tree = host(t, { 'proc/50/fdinfo/20': tun('vnet3'), ...tap('vnet3', 10, 20) });
  const { source, living, read, told } = start(t, tree);
  read();
  tree.write(tap('vnet3', 15, 120));
  read();
  t.deepEqual(told(), {
    'container.network.io receive vnet3': 10_000,
    'container.network.io transmit vnet3': 500,
    'sculptor.network.interface.packets receive vnet3': 100,
    'sculptor.network.interface.packets transmit vnet3': 5,
    'sculptor.network.interface.dropped receive vnet3': 0,
    'sculptor.network.interface.dropped transmit vnet3': 0,
  });
  t.is(source.samples(living)[0]?.start, 1000);
});

test('queues of one tap are one, and other files of QEMU are none', t => {
  const tree = host(t, {
    'proc/50/fdinfo/3': 'pos:\t0\nflags:\t02',
    'proc/50/fdinfo/20': tun('vnet3'),
    'proc/50/fdinfo/21': tun('vnet3'),
    'proc/50/fdinfo/22': tun('vnet4'),
    ...tap('vnet3', 1, 1),
    ...tap('vnet4', 1, 1),
  });
  const { read, told } = start(t, tree);
  read();
  t.is(Object.keys(told()).filter(name => name.startsWith('container.network.io')).length, 4);
});

test('a tap that was made anew under its name counts on, and a new one is found within a minute', t => {
  const tree = host(t, { 'proc/50/fdinfo/20': tun('vnet3'), ...tap('vnet3', 50, 0) });
  const { read, told } = start(t, tree);
  read();
  tree.write({ ...tap('vnet3', 7, 0), 'proc/50/fdinfo/21': tun('vnet9'), ...tap('vnet9', 3, 0) });
  read();
  t.is(told()['container.network.io transmit vnet3'], 700);
  t.is(told()['container.network.io transmit vnet9'], undefined);
  for (let i = 0; i < 6; i += 1) read();
  tree.write(tap('vnet9', 4, 0));
  read();
  t.is(told()['container.network.io transmit vnet9'], 100);
});

test('what a command line calls a tap is not believed, nor a name that is a path', t => {
  const args = ['-netdev', 'tap,id=n0,ifname=vnet3', '-netdev', '{"type":"tap","ifname":"vnet3"}'];
  const tree = host(t, tap('vnet3', 1, 1), args);
  const { source, read, told } = start(t, tree);
  read();
  t.deepEqual(told(), {});
  t.is(source.lost()['descriptors_refused'], 1);
  const names = ['../x', '.', '..', 'a/b', 'sixteen-letters!'];
  const files = names.map((name, i) => [`proc/50/fdinfo/${i}`, tun(name)]);
  tree.write({
    ...Object.fromEntries(files),
    ...tap('../x', 1, 1),
    ...tap('sixteen-letters!', 1, 1),
  });
  for (let i = 0; i < 7; i += 1) read();
  t.deepEqual(told(), {});
});

test('where nothing tells its taps that is counted and said; a QEMU that has ended is no such case', t => {
  const tree = host(t, {});
  const { source, read, told, said } = start(t, tree);
  read();
  t.deepEqual(told(), {});
  t.is(source.lost()['descriptors_refused'], 1);
  t.regex(said[0] ?? '', /web: its interfaces are not told/);
  for (let i = 0; i < 200; i += 1) read();
  t.true(Number(source.lost()['descriptors_refused']) > 30);
  t.is(said.length, 1);
  tree.remove('proc/50');
  const before = source.lost()['descriptors_refused'];
  for (let i = 0; i < 8; i += 1) read();
  t.is(source.lost()['descriptors_refused'], before);
});

test("a tap in another network namespace is read as that one's process sees it", t => {
  const tree = host(t, {
    'proc/50/fdinfo/20': tun('tap0'),
    'proc/50/ns/net': 'theirs',
    'proc/self/ns/net': 'ours',
    'proc/50/net/dev':
      'Inter-|   Receive\n face |bytes\n  tap0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0',
    // Of the same name, and another.
    ...tap('tap0', 99, 99),
  });
  const { read, told } = start(t, tree);
  read();
  tree.write({ 'proc/50/net/dev': '  tap0: 150 2 0 0 0 0 0 0 1200 12 0 3 0 0 0 0' });
  read();
  t.is(told()['container.network.io receive tap0'], 1000);
  t.is(told()['container.network.io transmit tap0'], 50);
  t.is(told()['sculptor.network.interface.packets receive tap0'], 10);
  t.is(told()['sculptor.network.interface.dropped receive tap0'], 3);
});

test('more taps than a machine has are counted, not told', t => {
  const names = Array.from({ length: 33 }, (_, i) => `t${i}`);
  const files = names.flatMap((name, i) => [
    [`proc/50/fdinfo/${i}`, tun(name)],
    ...Object.entries(tap(name, 1, 1)),
  ]);
  const { source, read, told } = start(t, host(t, Object.fromEntries(files)));
  read();
  t.is(Object.keys(told()).length, 32 * 6);
  t.is(source.lost()['too_many'], 1);
});

test('a tap that is no longer held is told no more, makes room, and begins anew when it is held again', t => {
  const tree = host(t, { 'proc/50/fdinfo/20': tun('vnet0'), ...tap('vnet0', 10, 0) });
  const { source, living, read, told } = start(t, tree);
  const minutes = (count: number): void => {
    for (let i = 0; i < 6 * count; i += 1) read();
  };
  minutes(1);
  tree.write({ 'proc/50/fdinfo/20': 'pos:\t0' });
  minutes(2);
  t.is(told()['container.network.io transmit vnet0'], 0, 'it may be back in a minute');
  minutes(1);
  t.deepEqual(told(), {});
  tree.write({ 'proc/50/fdinfo/20': tun('vnet0') });
  minutes(1);
  t.is(told()['container.network.io transmit vnet0'], 0);
  t.is(source.samples(living)[0]?.start, 1241);
  for (let i = 1; i <= 40; i += 1) {
    tree.write({ 'proc/50/fdinfo/20': tun(`vnet${i}`), ...tap(`vnet${i}`, 1, 0) });
    minutes(1);
  }
  t.is(told()['container.network.io transmit vnet40'], 0);
  t.is(source.lost()['too_many'], 0);
});
