import test from 'ava';
import fc from 'fast-check';
import type { Placement } from '../../src/contract/host.ts';
import { allowedCpus, createHostModel, type HostModel } from '../../src/pae/host-model.ts';
import { lookAt } from '../../src/pae/planner/contenders.ts';
import type { Observation } from '../../src/pae/series.ts';
import { placement, topology } from './stream.ts';

type Told = {
  readonly names: readonly string[];
  readonly weight: number | null;
  readonly idle: boolean | null;
  readonly cpus: readonly number[];
  readonly used: number;
  readonly wait: number;
  readonly heard: boolean;
  readonly vm: boolean;
};

/** Few names, so that some are above others, and some of what is above is told of. */
const told: fc.Arbitrary<Told> = fc.record({
  names: fc.array(fc.constantFrom('a', 'b', 'ab', 'c'), { maxLength: 4 }),
  weight: fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 1, max: 10_000 }) },
    fc.constant(null),
  ),
  idle: fc.constantFrom(false, false, true, null),
  cpus: fc.constantFrom([0, 1, 2, 3], [0, 1], [2, 3], [1, 2], [3]),
  used: fc.constantFrom(0, 0.01, 0.3, 1, 2.5),
  wait: fc.constantFrom(0, 0.005, 0.4, 3),
  heard: fc.constantFrom(true, true, true, false),
  vm: fc.boolean(),
});

const tree = fc.uniqueArray(told, {
  selector: ({ names }) => names.join('/'),
  minLength: 1,
  maxLength: 25,
});

function hostOf(instances: readonly Told[]) {
  const host = createHostModel();
  host.topology = topology(4);
  const latest = new Map<string, Observation>();
  instances.forEach(({ names, weight, idle, cpus, used, wait, heard, vm }, i) => {
    const path = `/${names.join('/')}`;
    const id = vm ? `vm-${i}` : path;
    const placed = placement({ id, path, load: { used } }, [0, 1, 2, 3]);
    host.placements.set(id, {
      ...placed,
      cgroup: { ...placed.cgroup, weight: names.length === 0 ? null : weight, idle },
      cpuset: { ...placed.cpuset, effective: [...cpus] },
    });
    if (heard)
      latest.set(id, {
        time: 1,
        spanSeconds: 1,
        usedCores: used,
        waitCores: wait,
        throttledCores: 0,
      });
  });
  return { host, latest };
}

type Plain = {
  readonly weight: number;
  readonly contenders: readonly { id: string; activity: number; sibling: boolean }[];
};

/** The cgroups from the root down to this one. */
function lineOf(path: string): string[] {
  const names = path.split('/').filter(name => name !== '');
  return ['/', ...names.map((_, i) => `/${names.slice(0, i + 1).join('/')}`)];
}

/** As docs/decisions/0004-planner.md has it, asked of each pair. */
function plainly(
  host: HostModel,
  beneficiary: Placement,
  latest: ReadonlyMap<string, Observation>,
): Plain {
  const all = [...host.placements.values()];
  const weights = new Map(
    all.map(({ cgroup }) => [cgroup.path, cgroup.idle === true ? 0.3 : cgroup.weight]),
  );
  const line = lineOf(beneficiary.cgroup.path);
  const own = allowedCpus(host, beneficiary).list;
  const branches = new Map<string, number>();
  let weight = 0;
  const contenders = all.flatMap(other => {
    const { id } = other.instance;
    const observation = latest.get(id);
    const shared = allowedCpus(host, other).list.some(cpu => own.includes(cpu));
    if (id === beneficiary.instance.id || !observation || !shared) return [];
    const wanted = observation.usedCores + observation.waitCores;
    if (wanted < 0.02) return [];
    const others = lineOf(other.cgroup.path);
    const parting = others.findIndex((path, i) => path !== line[i]);
    const branch = others[parting];
    const level = branch === undefined ? other.cgroup.path : others[parting - 1];
    const sibling = level === beneficiary.cgroup.parent;
    if (branch === undefined || weights.get(branch) === null) {
      weight += 100 * wanted;
      return [{ id, activity: wanted, sibling }];
    }
    const activity = Math.min(1, wanted);
    branches.set(branch, (branches.get(branch) ?? 0) + activity);
    return [{ id, activity, sibling }];
  });
  for (const [branch, activity] of branches)
    weight += (weights.get(branch) ?? 100) * Math.min(1, activity);
  return { weight: weight / own.length, contenders };
}

test('who competes with whom, and with which weight, is what it is by the definition, asked of each pair', t => {
  fc.assert(
    fc.property(tree, instances => {
      const { host, latest } = hostOf(instances);
      const look = lookAt(host, latest);
      for (const beneficiary of host.placements.values()) {
        const wanted = plainly(host, beneficiary, latest);
        const { contendersWeight, contenders } = look(beneficiary);
        const got = contenders.map(({ placement: { instance }, activity, sibling }) => ({
          id: instance.id,
          activity,
          sibling,
        }));
        t.deepEqual(got, wanted.contenders);
        // Added up in another order.
        t.true(Math.abs(contendersWeight - wanted.weight) <= 1e-9 * (1 + wanted.weight) + 1e-7);
      }
    }),
    { numRuns: 2000 },
  );
});

test('of each instance is asked once, not of each pair', t => {
  const asked = (count: number) => {
    const cpus = [0, 1, 2, 3];
    const host = createHostModel();
    host.topology = topology(4);
    let times = 0;
    const latest = new (class extends Map<string, Observation> {
      override get(id: string) {
        times += 1;
        return super.get(id);
      }
    })();
    for (let i = 0; i < count; i += 1) {
      const id = `/slice-${i % 7}/${i}`;
      host.placements.set(id, placement({ id, load: { used: 1 } }, cpus));
      latest.set(id, { time: 1, spanSeconds: 1, usedCores: 1, waitCores: 1, throttledCores: 0 });
    }
    const look = lookAt(host, latest);
    for (const each of host.placements.values()) t.true(look(each).contendersWeight > 0);
    return times;
  };
  t.is(asked(300), 300);
});
