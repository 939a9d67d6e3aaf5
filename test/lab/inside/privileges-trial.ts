/**
 * Starts each source of the agent with whatever privileges this process has, and reads it about a scene that is there
 * already; prints one JSON object: per source the metrics it told, or what refused it. `node privileges-trial.ts CGROUP VM`
 */

import { startScheduler } from '../../../src/agent/cpu/scheduler.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import type { Source, SourceContext } from '../../../src/agent/sources/source.ts';
import { sourceKinds } from '../../../src/agent/sources/sources.ts';
import { realClock } from '../../../src/cli/clock.ts';
import { agentConfigSchema } from '../../../src/contract/config.ts';
import { describeError } from '../../../src/contract/errors.ts';
import type { Instance } from '../../../src/contract/instance.ts';
import { cgroupIdOf, readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { loadNative } from '../../../src/linux/native.ts';
import { hostRoots } from '../../../src/linux/roots.ts';

/** What one source came to: the metrics it told of the scene, or why it did not start. */
export type Told = { readonly metrics: readonly string[] } | { readonly refused: string };
export type TrialOutcome = Readonly<Record<string, Told>>;

/** Longer than a turn of a source's own timer, and than the scene needs to do everything once. */
const watchedMilliseconds = 3000;

const [cgroup = '', uuid = ''] = process.argv.slice(2);
const layout = readCgroupLayout(hostRoots);
const config = agentConfigSchema.parse({
  detailIntervalSeconds: 1,
  placementIntervalSeconds: 1,
  outliers: { aboveSeconds: 0.0001 },
});
const common = {
  config,
  native: loadNative(),
  roots: hostRoots,
  layout,
  clock: realClock,
  say: () => undefined,
};
const living: LivingInstance[] = [
  life({ id: cgroup, kind: 'cgroup', name: cgroup }),
  life({ id: uuid, kind: 'vm', name: 'vm' }),
];

const started = new Map<string, Source>();
const told: Record<string, Told> = {};
await attempt('sched', async () => {
  const scheduler = await startScheduler({ ...common, hostId: 'trial' });
  const source = scheduler.source({ hottest: () => [], ran: () => undefined });
  const read = (all: readonly LivingInstance[]): void => {
    // What the agent reads beside the source.
    scheduler.probe.readTotals();
    scheduler.runByCpu();
    scheduler.maskedThreads();
    source.read(all);
  };
  return { ...source, read };
});
const emitted: unknown[] = [];
const context: SourceContext = {
  ...common,
  bpftrace: null,
  hostId: 'trial',
  emit: event => void emitted.push(event),
  runByCpu: () => new Map(),
  vcpus: { of: () => new Map(), learn: () => undefined, untold: () => 0 },
  guests: () => null,
};
for (const kind of sourceKinds) await attempt(kind.name, async () => kind.start(context));

// At once, since a source may then need a while: QEMU measures for a second.
for (let round = 0; round < 3; round += 1) {
  if (round > 0) await new Promise(resolve => setTimeout(resolve, watchedMilliseconds / 2));
  for (const [name, source] of started)
    await attempt(name, async () => {
      source.read(living);
      return source;
    });
}
// The kernel's table of symbols is long, and an emulated machine takes seconds to walk through it.
for (let waits = 0; started.has('outliers') && emitted.length === 0 && waits < 100; waits += 1)
  await new Promise(resolve => setTimeout(resolve, 200));
for (const [name, source] of started) {
  if (name in told) continue;
  const events = name === 'outliers' ? toldEvents() : [];
  const samples = [...living.flatMap(one => source.samples(one)), ...source.host()];
  const metrics = new Set(samples.map(({ metric }) => String(metric)));
  told[name] = { metrics: [...metrics, ...events].sort() };
}
console.log(JSON.stringify(told));
// The only one whose traces in the kernel outlive this process.
started.get('access')?.stop();
process.exit(0);

async function attempt(name: string, start: () => Promise<Source>): Promise<void> {
  try {
    started.set(name, await start());
  } catch (error) {
    told[name] = { refused: describeError(error).split('\n')[0] ?? '' };
  }
}

/** That there were events, and whether their stacks name functions. */
function toldEvents(): string[] {
  const texts = emitted.map(event => JSON.stringify(event));
  const named = texts.some(text => /"stack":\["(?!0x)/.test(text));
  return [...(texts.length > 0 ? ['event'] : []), ...(named ? ['names in stacks'] : [])];
}

function life(instance: Instance): LivingInstance {
  const id = cgroupIdOf(layout, cgroup) ?? 0;
  return {
    instance,
    path: cgroup,
    members: new Map([[id, cgroup]]),
    start: realClock.unixSeconds(),
    totals: { runNs: 0, waitNs: 0, throttledNs: 0 },
    window: { usedCores: 0, waitCores: 0, throttledCores: 0 },
  };
}
