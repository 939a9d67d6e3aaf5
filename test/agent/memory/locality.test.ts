import test from 'ava';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { createLocality } from '../../../src/agent/memory/locality.ts';
import type { NodePages } from '../../../src/linux/memory.ts';

const life = (...ids: number[]) =>
  ({ members: new Map(ids.map(id => [id, `/${id}`])) }) as unknown as LivingInstance;
/** CPUs 0 and 1 on node 0, 2 and 3 on node 1. */
const nodeOfCpu = new Map([
  [0, 0],
  [1, 0],
  [2, 1],
  [3, 1],
]);
const pages = (node0: number, node1: number): NodePages =>
  new Map([
    ['anon', new Map([[0, node0]])],
    [
      'file',
      new Map([
        [0, 0],
        [1, node1],
      ]),
    ],
  ]);

test('pages are local where the instance ran since the reading before, by its time on each node', t => {
  const locality = createLocality();
  const one = life(7);
  locality.read([one], new Map([[7, Float64Array.of(5, 5, 0, 0)]]), nodeOfCpu);
  t.is(locality.localShare(one, pages(100, 0)), 1);
  t.is(locality.localShare(one, pages(25, 75)), 0.25);
  locality.read([one], new Map([[7, Float64Array.of(5, 5, 0, 10)]]), nodeOfCpu);
  t.is(locality.localShare(one, pages(25, 75)), 0.75, 'it moved to node 1');
  locality.read([one], new Map([[7, Float64Array.of(15, 5, 10, 10)]]), nodeOfCpu);
  t.is(locality.localShare(one, pages(25, 75)), 0.5, 'half of its time on each');
});

test('an idle instance belongs where it ran last, and one that never ran has no share', t => {
  const locality = createLocality();
  const [one, never] = [life(7), life(8)];
  const run = new Map([[7, Float64Array.of(0, 0, 3, 0)]]);
  locality.read([one, never], run, nodeOfCpu);
  locality.read([one, never], run, nodeOfCpu);
  t.is(locality.localShare(one, pages(10, 90)), 0.9);
  t.is(locality.localShare(never, pages(10, 90)), null);
  t.is(locality.localShare(one, pages(0, 0)), null);
  t.is(locality.localShare(life(9), pages(1, 1)), null);
});

test('the cgroups of a VM count together', t => {
  const locality = createLocality();
  const vm = life(1, 2);
  const run = new Map([
    [1, Float64Array.of(30, 0, 0, 0)],
    [2, Float64Array.of(0, 0, 10, 0)],
  ]);
  locality.read([vm], run, nodeOfCpu);
  t.is(locality.localShare(vm, pages(100, 0)), 0.75);
});

test('a cgroup of a VM that is gone takes nothing from where the others run', t => {
  const locality = createLocality();
  const [whole, rest] = [life(1, 2), life(1)];
  const vm = { ...whole } as { members: LivingInstance['members'] } & LivingInstance;
  const ran = (ns: number) =>
    new Map([
      [1, Float64Array.of(ns, 0, 0, 0)],
      [2, Float64Array.of(0, 0, 10, 0)],
    ]);
  locality.read([vm], ran(30), nodeOfCpu);
  vm.members = rest.members;
  locality.read([vm], ran(50), nodeOfCpu);
  t.is(locality.localShare(vm, pages(25, 75)), 0.25);
});
