import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ava, { type ExecutionContext } from 'ava';
import * as z from 'zod';
import {
  type AgentProcess,
  bpfOf,
  readProcess,
  readPrograms,
  startAgentProcess,
} from '../../bench/agent-process.ts';
import { beside, has, needs } from '../support/needs.ts';
import { endChild, eventually } from '../support/scene.ts';

const test = beside(needs('root', 'btf', 'addon', 'cgroupV1Cpu'));
const workload = new URL('../../build/sculpt-workload', import.meta.url).pathname;
const bpftool = '/usr/sbin/bpftool';

let folder = '';
let shared: Promise<AgentProcess> | null = null;
ava.after.always(async () => {
  await (await shared)?.stop();
  if (folder) rmSync(folder, { recursive: true });
});

/** An agent as it is shipped, that tells details every second; one for all tests. */
function theAgent(t: ExecutionContext): Promise<AgentProcess> {
  t.timeout(90_000);
  folder ||= mkdtempSync(join(tmpdir(), 'sculptor-cost-'));
  shared ??= startAgentProcess(folder, {}, undefined, { detailIntervalSeconds: 1 });
  return shared;
}

/** By metric and attributes: the last values of what the agent takes, once details have been told anew. */
async function nextCost(agent: AgentProcess): Promise<Readonly<Record<string, number>>> {
  const times = async () => (await agent.received()).metrics['process.memory.usage'] ?? 0;
  const before = await times();
  await eventually('details are told', 15, async () => ((await times()) > before ? true : null));
  const { totals } = await agent.received();
  return Object.values(totals).find(of => of['process.memory.usage'] !== undefined) ?? {};
}

function ratio(told: number | undefined, measured: number): number {
  return Math.abs((told ?? Number.NaN) / measured - 1);
}

test('memory and CPU time are what the kernel tells of the process from outside', async t => {
  const agent = await theAgent(t);
  const found = await eventually('all of them agree', 40, async () => {
    const from = readProcess(agent.pid);
    const told = await nextCost(agent);
    const to = readProcess(agent.pid);
    const [user = 0, system = 0] = ['user', 'system'].map(mode => told[`process.cpu.time ${mode}`]);
    // /proc counts in hundredths of a second, of each mode.
    t.true(user + system > from.userSeconds + from.kernelSeconds - 0.02, `${user} + ${system} s`);
    t.true(user + system < to.userSeconds + to.kernelSeconds + 0.02, `${user} + ${system} s`);
    // Its heap grows and shrinks, and so do hashes with what goes on on this machine, between one look and the other.
    const isSame =
      ratio(told['process.memory.usage'], to.rssBytes) < 0.01 &&
      ratio(told['sculptor.agent.bpf.memory'], to.bpfMapBytes + to.bpfProgramBytes) < 0.001;
    return isSame ? to : null;
  });
  t.log(JSON.stringify(found));
});

const shownMaps = z.array(
  z.looseObject({ id: z.number(), name: z.string(), max_entries: z.number() }),
);
const dumped = z.array(z.unknown());

test('how full a map is, is what bpftool finds in it', async t => {
  const agent = await theAgent(t);
  const ask = (...of: string[]) =>
    JSON.parse(
      execFileSync(bpftool, ['-j', ...of], { encoding: 'utf8', maxBuffer: 1 << 28 }),
    ) as unknown;
  await nextCost(agent);
  const held = bpfOf(agent.pid, 'map');
  const maps = shownMaps.parse(ask('map', 'show')).filter(({ id }) => held.has(id));
  const told = new Set<string>();
  const pending = new Map<string, (typeof maps)[number]>();
  for (const [name, shown] of Object.entries({
    instances: 'instances',
    faults: 'faults',
    block: 'block',
    ...(has('socketsOfFiles') ? { networks: 'networks' } : {}),
    shared_instances: 'shared_instance',
  })) {
    const map = maps.find(one => one.name === shown);
    if (!map) throw new Error(`no map ${shown}`);
    pending.set(name, map);
  }
  await eventually('the entries of all', 60, async () => {
    const cost = await nextCost(agent);
    for (const [name, { id, max_entries }] of pending) {
      const found = dumped.parse(ask('map', 'dump', 'id', String(id))).length;
      t.is(cost[`sculptor.agent.map.limit ${name}`], max_entries, name);
      if (found > 0) told.add(name);
      if (cost[`sculptor.agent.map.entries ${name}`] === found) pending.delete(name);
    }
    return pending.size === 0 ? true : null;
  });
  t.true(told.has('instances') && told.has('faults'), [...told].join(' '));
});

test('runs of BPF programs are told while the kernel counts them, and are those that bpftool shows', async t => {
  const agent = await theAgent(t);
  const outside = () => {
    const all = [...readPrograms(agent.pid).values()];
    return {
      runs: all.reduce((sum, one) => sum + one.runs, 0),
      seconds: all.reduce((sum, one) => sum + one.runNs / 1e9, 0),
    };
  };
  const tells = async () => (await agent.received()).metrics['sculptor.agent.bpf.runs'] ?? 0;
  await nextCost(agent);
  await nextCost(agent);
  // Else somebody else on this machine has it count, who is not stopped here.
  if (outside().runs === 0) t.is(await tells(), 0, 'told, though nothing is counted');
  else t.log('counted before already');

  const counting = spawn(workload, ['count-runs'], { stdio: ['ignore', 'ignore', 'inherit'] });
  try {
    await eventually('runs are told', 15, async () => ((await tells()) > 0 ? true : null));
    const from = outside();
    const told = await nextCost(agent);
    const to = outside();
    const { 'sculptor.agent.bpf.runs': runs = 0, 'sculptor.agent.bpf.run.time': seconds = 0 } =
      told;
    t.log(JSON.stringify({ from, runs, seconds, to }));
    t.true(from.runs > 0 && from.runs < runs && runs < to.runs);
    t.true(from.seconds < seconds && seconds < to.seconds);
  } finally {
    await endChild(counting);
  }
  await nextCost(agent);
  const [still, before] = [outside().runs, await tells()];
  await nextCost(agent);
  if (outside().runs === still) t.is(await tells(), before, 'told, though nothing is counted');
});
