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

/** All that may use the same CPUs. */
type Group = { readonly cpus: readonly number[]; readonly bidders: Bidder[] };

/** Who competes for some CPUs, and what they come to by cgroup. */
type Field = { readonly bidders: Bidder[]; readonly accounts: Accounts };

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
    const group = groups.get(key) ?? { cpus, bidders: [] };
    groups.set(key, group);
    const rule = ruleOf(host, placement.instance.id);
    const cgroup = tree(placement.cgroup.path);
    const isHost = cgroup.parent === null;
    group.bidders.push({ placement, observation, rule, isHost, cgroup, wanted, nth: instances });
  }
  const byCpu = new Map<number, Group[]>();
  for (const group of groups.values())
    for (const cpu of group.cpus) byCpu.set(cpu, [...(byCpu.get(cpu) ?? []), group]);
  const fields = new Map<string, Field>();

  const fieldOf = (cpus: readonly number[]): Field => {
    const sharing = new Set(cpus.flatMap(cpu => byCpu.get(cpu) ?? []));
    const bidders = [...sharing].flatMap(group => group.bidders);
    return { bidders, accounts: accountsOf(bidders) };
  };

  return placement => {
    const { list: cpus, key } = allowedCpus(host, placement);
    const field = fields.get(key) ?? fieldOf(cpus);
    fields.set(key, field);
    const cgroup = tree(placement.cgroup.path);
    let contenders: readonly Contender[] | null = null;
    return {
      cpus,
      instances,
      contendersWeight: weightBeside(field.accounts, cgroup) / Math.max(1, cpus.length),
      get contenders() {
        contenders ??= contendersOf(field.bidders, placement, cgroup);
        return contenders;
      },
    };
  };
}

/**
 * What is in a cgroup and below it. `tasks`: what its own tasks want, in cores. `inside`: the weight with which those below it compete
 * among each other. `active`: how much of the time one of them at least wants a CPU, as far as its own weight counts; `loose`: what
 * those want that compete one by one, since it has no weight.
 */
type Account = { tasks: number; inside: number; active: number; loose: number };
type Accounts = ReadonlyMap<Cgroup, Account>;

function accountsOf(bidders: readonly Bidder[]): Accounts {
  const accounts = new Map<Cgroup, Account>();
  const accountOf = (cgroup: Cgroup): Account => {
    const known = accounts.get(cgroup);
    if (known) return known;
    const account = { tasks: 0, inside: 0, active: 0, loose: 0 };
    accounts.set(cgroup, account);
    return account;
  };
  for (const { cgroup, wanted } of bidders) {
    accountOf(cgroup).tasks += wanted;
    for (let each: Cgroup | null = cgroup; each !== null; each = each.parent) {
      const account = accountOf(each);
      if (each.weight === null) account.loose += wanted;
      else account.active += Math.min(1, wanted);
    }
  }
  for (const [cgroup, account] of accounts)
    if (cgroup.parent !== null) accountOf(cgroup.parent).inside += weightAs(cgroup, account);
  return accounts;
}

/** The weight with which all that is in a cgroup competes with its siblings. */
function weightAs({ weight }: Cgroup, { active, loose }: Account): number {
  return (weight ?? 0) * Math.min(1, active) + defaultWeight * loose;
}

/**
 * The weight that competes with a cgroup's. Two compete as what they are parts of right below where their paths part: all in a sibling
 * of it, or of one above it, share that one's weight. Tasks of the cgroups above it, as the root is, and of those without a weight, as
 * on v2 where the cpu controller is not enabled, compete one by one.
 */
function weightBeside(accounts: Accounts, cgroup: Cgroup): number {
  let weight = accounts.get(cgroup)?.inside ?? 0;
  for (let below = cgroup; below.parent !== null; below = below.parent) {
    const above = accounts.get(below.parent);
    if (!above) continue;
    const itself = accounts.get(below);
    weight += defaultWeight * above.tasks + above.inside;
    if (itself) weight -= weightAs(below, itself);
  }
  return weight;
}

function contendersOf(bidders: Bidder[], beneficiary: Placement, cgroup: Cgroup): Contender[] {
  const line: Cgroup[] = [];
  for (let each: Cgroup | null = cgroup; each !== null; each = each.parent) line.unshift(each);
  const contenders: Contender[] = [];
  bidders.sort((a, b) => a.nth - b.nth);
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
