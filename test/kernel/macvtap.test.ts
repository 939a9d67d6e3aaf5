import { execFileSync } from 'node:child_process';
import type { ExecutionContext } from 'ava';
import { hostRoots } from '../../src/linux/roots.ts';
import { readTapCounters, readTaps, type TapCounters } from '../../src/linux/taps.ts';
import {
  type Holder,
  holdMacvtap,
  type Macvtap,
  makeMacvtap,
  sendToMacvtap,
} from '../support/macvtap.ts';
import { needs } from '../support/needs.ts';
import { makeNamespace, type NetworkNamespace } from '../support/talkers.ts';

const test = needs('root', 'namespaces', 'macvtap');
const otherUserTest = needs('root', 'namespaces', 'macvtap', 'nodeAndCheckoutThatOthersMayRun');
const mac = '52:54:00:12:34:57';

function makeNet(t: ExecutionContext): NetworkNamespace {
  const namespace = makeNamespace();
  t.teardown(namespace.end);
  return namespace;
}

type Where = { readonly device?: NetworkNamespace; readonly holder?: NetworkNamespace };

async function hold(t: ExecutionContext, where: Where): Promise<[Macvtap, Holder]> {
  const macvtap = makeMacvtap(mac, where.device);
  t.teardown(macvtap.end);
  const holder = await holdMacvtap(macvtap, where.holder);
  t.teardown(holder.end);
  return [macvtap, holder];
}

function countersOf({ name }: Macvtap, { tgid }: Holder): TapCounters | undefined {
  return readTapCounters(hostRoots, tgid, readTaps(hostRoots, tgid) ?? []).get(name);
}

const none: TapCounters = {
  ...{ receivedBytes: 0, sentBytes: 0, receivedPackets: 0, sentPackets: 0 },
  ...{ receivedDropped: 0, sentDropped: 0 },
};

/** Real frames both ways, and what is told of them to their byte. */
async function exchange(t: ExecutionContext, where: Where, place: string): Promise<void> {
  const [macvtap, holder] = await hold(t, where);
  t.deepEqual(readTaps(hostRoots, holder.tgid), [
    { name: macvtap.name, countersOf: 'holder', place },
  ]);
  t.deepEqual(countersOf(macvtap, holder), none);
  await holder.send(7, 500);
  sendToMacvtap(5, 100, where.device);
  await holder.take(5, 142);
  t.deepEqual(countersOf(macvtap, holder), {
    ...none,
    ...{ sentPackets: 7, sentBytes: 7 * 500, receivedPackets: 5, receivedBytes: 5 * 142 },
  });
}

test('what is sent and received through a macvtap is told as its holder sees it', async t => {
  await exchange(t, {}, 'ours');
});

test('a macvtap of ours whose holder is in another network namespace is told', async t => {
  await exchange(t, { holder: makeNet(t) }, 'ours');
});

test('a macvtap in the network namespace of its holder is told', async t => {
  const namespace = makeNet(t);
  await exchange(t, { device: namespace, holder: namespace }, 'holder');
});

test('one that is in neither is known, and has no counters', async t => {
  const [macvtap, holder] = await hold(t, { device: makeNet(t) });
  t.deepEqual(readTaps(hostRoots, holder.tgid), [
    { name: macvtap.name, countersOf: 'holder', place: 'third' },
  ]);
  t.is(countersOf(macvtap, holder), undefined);
});

test('frames that nobody took out in time are dropped, and among those that were received', async t => {
  const namespace = makeNet(t);
  const [macvtap, holder] = await hold(t, { device: namespace, holder: namespace });
  // Its queue has room for 500.
  sendToMacvtap(700, 100, namespace);
  const counters = countersOf(macvtap, holder);
  t.log(JSON.stringify(counters));
  t.like(counters, { receivedPackets: 700, receivedDropped: 200, receivedBytes: 700 * 142 });
  await holder.take(500, 142);
});

/** What a user of its own with these capabilities finds: the macvtap, and whether it may ask at all. */
function foundWith(capabilities: readonly string[], { tgid }: Holder): unknown {
  const list = ['-all', ...capabilities.map(name => `+${name}`)].join();
  const ask = `const { hostRoots } = await import('${source}/roots.ts');
    const { mayAskDevices, readTaps } = await import('${source}/taps.ts');
    console.log(JSON.stringify([mayAskDevices(hostRoots, ${tgid}), readTaps(hostRoots, ${tgid})?.length ?? null]));`;
  const output = execFileSync(
    'setpriv',
    [
      ...['--reuid', '64901', '--regid', '64901', '--clear-groups', '--bounding-set', list],
      ...['--inh-caps', list, '--ambient-caps', list],
      ...[process.execPath, '--input-type=module', '-e', ask],
    ],
    { encoding: 'utf8', timeout: 8000 },
  );
  return JSON.parse(output);
}

const source = new URL('../../src/linux', import.meta.url).pathname;

otherUserTest(
  "which macvtaps another user's process holds takes two capabilities, and without is known not to be known",
  async t => {
    t.timeout(30_000);
    const [, holder] = await hold(t, {});
    t.deepEqual(foundWith([], holder), [false, null]);
    t.deepEqual(foundWith(['sys_ptrace'], holder), [false, 0]);
    t.deepEqual(foundWith(['sys_ptrace', 'dac_read_search'], holder), [true, 1]);
  },
);
