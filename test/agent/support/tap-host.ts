import { mkdirSync, symlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { tapSource } from '../../../src/agent/network/tap-source.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { makeTree, mounts, type Tree, taskFiles } from '../../linux/tree.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const uuid = '1b671a64-40d5-491e-99b0-da01ff1f3341';

/** A VM in /vm whose QEMU is process 50. */
export function host(
  t: ExecutionContext,
  files: Record<string, string>,
  args: string[] = [],
): Tree {
  return makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu',
    'cgroup/vm/cgroup.procs': '50',
    ...taskFiles(50, { cmdline: ['qemu-system-x86_64', '-uuid', uuid, ...args] }),
    ...files,
  });
}

/** What the host counts of an interface: what it receives is what the VM sends. */
export const tap = (name: string, received: number, sent: number): Record<string, string> =>
  Object.fromEntries(
    Object.entries({
      rx_bytes: received * 100,
      rx_packets: received,
      rx_dropped: 0,
      tx_bytes: sent * 100,
      tx_packets: sent,
      tx_dropped: 1,
    }).map(([counter, n]) => [`sys/class/net/${name}/statistics/${counter}`, `${n}`]),
  );

export const tun = (name: string) => `pos:\t0\nflags:\t0104002\nmnt_id:\t10\niff:\t${name}`;

export function start(t: ExecutionContext, tree: Tree) {
  const clock = steppedClock(1000);
  const said: string[] = [];
  const source = tapSource.start({
    config: { detailIntervalSeconds: 10, placementIntervalSeconds: 60 },
    roots: tree,
    layout: readCgroupLayout(tree),
    clock,
    say: (_level: string, message: string) => void said.push(message),
  } as unknown as SourceContext);
  t.teardown(source.stop);
  const living = {
    instance: { id: uuid, kind: 'vm', name: 'web' },
    path: '/vm',
    start: 990,
    members: new Map([[7, '/vm']]),
    totals: { runNs: 0 },
  } as unknown as LivingInstance;
  const read = () => {
    living.totals.runNs += 1;
    source.read([living]);
    clock.step(10);
  };
  const told = () =>
    Object.fromEntries(
      source
        .samples(living)
        .map(({ metric, attributes, value }) => [
          [metric, ...Object.values(attributes ?? {})].join(' '),
          value,
        ]),
    );
  return { clock, source, living, read, told, said };
}

/** Links of a tree, each as it says itself. */
export function link(tree: Tree, links: Readonly<Record<string, string>>): void {
  for (const [path, target] of Object.entries(links)) {
    const full = `${dirname(tree.proc)}/${path}`;
    mkdirSync(dirname(full), { recursive: true });
    symlinkSync(target, full);
  }
}

/** VMs with interfaces that are not told, by reason, where there are some. */
export const untold = (source: ReturnType<typeof start>['source']) =>
  Object.fromEntries(
    source
      .host()
      .filter(({ value }) => value !== 0)
      .map(({ metric, attributes, value }) => [
        `${metric} ${attributes?.['sculptor.reason']}`,
        value,
      ]),
  );
