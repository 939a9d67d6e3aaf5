import type { Placement } from '../../contract/host.ts';
import type { InstancePolicy } from '../../contract/policy.ts';
import { allowedCpus, type HostModel, ruleOf } from '../host-model.ts';
import type { Observation } from '../series.ts';
import { type Cgroup, createCgroupTree, defaultWeight } from './cgroup-tree.ts';

/** An instance that wants the same CPUs. */
export type Contender = {
  readonly placement: Placement;
  readonly observation: Observation;
  /** How many entities want a CPU for it: 0..1 of a cgroup, its runnable tasks where they compete one by one. */
  readonly activity: number;
  /** The policy's, for it. */
  readonly rule: InstancePolicy | null;
  /** The host's own processes, ours among them: they compete, and are never moved. */
  readonly isHost: boolean;
  /** Whether the beneficiary's weight counts beside it: they part right below the same cgroup. */
  readonly sibling: boolean;
};

export type Contention = {
  readonly cpus: readonly number[];
  /** In the order of placements; made when it is asked for, since only of those that wait it is. */
  readonly contenders: readonly Contender[];
  /** Instances that are placed and heard of; of others it is not known whether they are there still. */
  readonly instances: number;
  /** Mean weight on one of its CPUs that competes with the beneficiary's, in cgroup v2 units. */
  readonly contendersWeight: number;
};

/** Who wants the CPUs of an instance, and with which weight. */
export type Look = (placement: Placement) => Contention;

/** An instance that is awake: what it wants, in cores, and its place in the order of placements. */
type Bidder = Omit<Contender, 'activity' | 'sibling'> & {
  readonly cgroup: Cgroup;
  readonly wanted: number;
  readonly nth: number;
};

/** All that may use the same CPUs. `field`: the newest one it was found to be part of. */
type Group = { readonly cpus: readonly number[]; readonly bidders: Bidder[]; field: number };

/** Who competes for some CPUs, and what they come to by cgroup. */
type Field = { readonly groups: readonly Group[]; readonly accounts: Accounts };

/** Fields that are kept, each of 24 bytes for every cgroup. Of instances with CPUs that no other has exactly none is asked for twice. */
const mostFields = 256;

/** Below this an instance is asleep: it takes nothing worth planning for. */
const activeCores = 0.02;

/**
 * Looks at all instances once, for questions about each: asked of pairs, they would be quadratic in instances. What those that share
 * CPUs with an instance come to is added up by cgroup once for all that may use the same CPUs, and told of each by the cgroups above it.
 * Holds while neither placements nor observations change.
 */
export function lookAt(host: HostModel, latest: ReadonlyMap<string, Observation>): Look {
  const tree = createCgroupTree(host.placements.values());
  const groups = new Map<string, Group>();
  let instances = 0;
  for (const placement of host.placements.values()) {
    const observation = latest.get(placement.instance.id);
    if (!observation) continue;
    instances += 1;
    const wanted = observation.usedCores + observation.waitCores;
    if (wanted < activeCores) continue;
    const { list: cpus, key } = allowedCpus(host, placement);
    const group = groups.get(key) ?? { cpus, bidders: [], field: 0 };
    groups.set(key, group);
    const rule = ruleOf(host, placement.instance.id);
    const cgroup = tree.at(placement.cgroup.path);
    const isHost = cgroup.parent === null;
    group.bidders.push({ placement, observation, rule, isHost, cgroup, wanted, nth: instances });
  }
  const byCpu = new Map<number, Group[]>();
  for (const group of groups.values())
    for (const cpu of group.cpus) {
      const those = byCpu.get(cpu) ?? [];
      byCpu.set(cpu, those);
      those.push(group);
    }
  const fields = new Map<string, Field>();
  let made = 0;

  const fieldOf = (cpus: readonly number[]): Field => {
    made += 1;
    const sharing: Group[] = [];
    for (const cpu of cpus)
      for (const group of byCpu.get(cpu) ?? []) {
        if (group.field !== made) sharing.push(group);
        group.field = made;
      }
    return { groups: sharing, accounts: accountsOf(sharing, tree.all) };
  };

  return placement => {
    const { list: cpus, key } = allowedCpus(host, placement);
    const field = fields.get(key) ?? fieldOf(cpus);
    fields.delete(key);
    fields.set(key, field);
    // The one that was asked for longest ago: what most share stays.
    for (const oldest of fields.keys()) if (fields.size > mostFields) fields.delete(oldest);
    const cgroup = tree.at(placement.cgroup.path);
    let contenders: readonly Contender[] | null = null;
    return {
      cpus,
      instances,
      contendersWeight: weightBeside(field.accounts, cgroup) / Math.max(1, cpus.length),
      get contenders() {
        contenders ??= contendersOf(field.groups, placement, cgroup);
        return contenders;
      },
    };
  };
}

/**
 * By the place of a cgroup among all. `tasks`: what its own tasks want, in cores. `inside`: the weight with which those right below it
 * compete among each other. `asOne`: the weight with which all that is in it competes with its siblings.
 */
type Accounts = { readonly [sum in 'tasks' | 'inside' | 'asOne']: Float64Array };

function accountsOf(groups: readonly Group[], cgroups: readonly Cgroup[]): Accounts {
  const sums = () => new Float64Array(cgroups.length);
  const [tasks, inside, asOne] = [sums(), sums(), sums()];
  // How much of the time one of those in it wants a CPU, as far as its own weight counts; and what those want that compete one by one.
  const [active, loose] = [sums(), sums()];
  for (const { bidders } of groups)
    for (const { cgroup, wanted } of bidders) {
      add(tasks, cgroup, wanted);
      for (let each: Cgroup | null = cgroup; each !== null; each = each.parent) {
        if (each.weight === null) add(loose, each, wanted);
        else add(active, each, Math.min(1, wanted));
      }
    }
  for (const cgroup of cgroups) {
    const shared = (cgroup.weight ?? 0) * Math.min(1, at(active, cgroup));
    add(asOne, cgroup, shared + defaultWeight * at(loose, cgroup));
    if (cgroup.parent !== null) add(inside, cgroup.parent, at(asOne, cgroup));
  }
  return { tasks, inside, asOne };
}

function at(sums: Float64Array, { nth }: Cgroup): number {
  return sums[nth] ?? 0;
}

function add(sums: Float64Array, cgroup: Cgroup, amount: number): void {
  sums[cgroup.nth] = at(sums, cgroup) + amount;
}

/**
 * The weight that competes with a cgroup's. Two compete as what they are parts of right below where their paths part: all in a sibling
 * of it, or of one above it, share that one's weight. Tasks of the cgroups above it, as the root is, and of those without a weight, as
 * on v2 where the cpu controller is not enabled, compete one by one.
 */
function weightBeside({ tasks, inside, asOne }: Accounts, cgroup: Cgroup): number {
  let weight = at(inside, cgroup);
  for (let below = cgroup; below.parent !== null; below = below.parent)
    weight += defaultWeight * at(tasks, below.parent) + at(inside, below.parent) - at(asOne, below);
  return weight;
}

function contendersOf(
  groups: readonly Group[],
  beneficiary: Placement,
  cgroup: Cgroup,
): Contender[] {
  const line: Cgroup[] = [];
  for (let each: Cgroup | null = cgroup; each !== null; each = each.parent) line.unshift(each);
  const contenders: Contender[] = [];
  const bidders = groups.flatMap(group => group.bidders).sort((a, b) => a.nth - b.nth);
  for (const { placement, observation, rule, isHost, wanted, cgroup: its } of bidders) {
    if (placement.instance.id === beneficiary.instance.id) continue;
    let branch: Cgroup | null = null;
    let level = its;
    while (line[level.depth] !== level && level.parent !== null)
      [branch, level] = [level, level.parent];
    const alone = branch === null || branch.weight === null;
    const activity = alone ? wanted : Math.min(1, wanted);
    const sibling = level === cgroup.parent;
    contenders.push({ placement, observation, activity, rule, isHost, sibling });
  }
  return contenders;
}
