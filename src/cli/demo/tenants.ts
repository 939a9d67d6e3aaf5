import { setTimeout as sleep } from 'node:timers/promises';
import { actOnOnset, type Tell } from './act.ts';
import { failure, untilGivenBack } from './decision.ts';
import type { Loop } from './loop.ts';
import { coresOver, type MarkPhase, phaseMarker } from './measure.ts';
import type { ControlResult, Phase, PhaseName, SceneResult } from './result.ts';
import type { Stage, StagedInstance } from './stage.ts';
import { differences, readKernelState } from './state.ts';
import { watchSettings } from './watch.ts';

/** Demand of the critical instance: this much of each millisecond. */
const burnMicroseconds = 300;
/** Sleep and burn of one cycle of the critical instance. */
export const workloadCycleSeconds = 1e-3 + burnMicroseconds / 1e6;
const batchInstances = 8;
const phaseSeconds = 4;
const controlSeconds = 6;
/** A stamp that falls to observe is obeyed within 5 s. */
const giveBackSeconds = 8;

/** A latency-critical instance beside batch, one cgroup each and all of equal weight: from a handful of neighbours on, its fair share is below its demand. */
export type Tenants = {
  readonly critical: StagedInstance;
  readonly batch: StagedInstance[];
  /** Adds batch instances until there are `count`. */
  readonly addBatch: (count: number) => void;
  /** Measures `seconds` from now on. */
  readonly measure: (name: string, seconds: number) => Promise<Omit<Phase, 'name'>>;
};

export function stageTenants(stage: Stage, rawFile: string): Tenants {
  const critical = stage.make('critical');
  const burn = String(burnMicroseconds);
  const mark: MarkPhase = phaseMarker(
    stage.run(critical, 'latency', '--burn-us', burn, '--raw', rawFile),
  );
  const batch: StagedInstance[] = [];
  return {
    critical,
    batch,
    addBatch: count => {
      while (batch.length < count) {
        const instance = stage.make(`batch${batch.length + 1}`);
        stage.run(instance, 'spin');
        batch.push(instance);
      }
    },
    measure: async (name, seconds) => {
      await mark('between');
      const cores = await coresOver(seconds, { critical: [critical], batch });
      return { lateness: await mark(name), cores };
    },
  };
}

/** The first phase of scene 1: the critical instance with nobody beside it. */
export async function measureAlone(tenants: Tenants, tell: Tell): Promise<Phase> {
  await settle();
  return measurePhase(tenants, 'alone', tell);
}

/** Control: one batch neighbour, with permission to act throughout. Nothing is wrong, so nothing may happen. */
export async function runControl(loop: Loop, tenants: Tenants, tell: Tell): Promise<ControlResult> {
  tenants.addBatch(1);
  await loop.stamp('enforce');
  await settle();
  const since = Date.now() / 1000;
  tell(`control: one batch neighbour, mode enforce, measured for ${controlSeconds} s`);
  const { lateness, cores } = await tenants.measure('control', controlSeconds);
  const recommendations = (await loop.recommendations()).filter(({ created }) => created >= since);
  const actions = (await loop.actions()).filter(({ at }) => at >= since);
  const verdict = (await loop.verdicts()).find(each => each.instance === tenants.critical.id);
  await loop.stamp('observe');
  if (lateness === null) throw failure('control: no lateness was measured');
  const why = verdict?.why ?? 'the engine has not judged it yet';
  tell(`control: nothing recommended: ${why}`);
  return {
    staged: `The same latency-critical instance (${burnMicroseconds} µs of each ms) beside one batch instance.`,
    seconds: controlSeconds,
    lateness,
    cores,
    recommendations: recommendations.length,
    actions: actions.length,
    verdict: why,
  };
}

/**
 * Scene 1: contended, sculpted, restored. `alone` was measured before there was any neighbour.
 * @throws SculptorError DEMO_FAILED
 */
export async function runTenants(
  { stage, loop, tell }: { stage: Stage; loop: Loop; tell: Tell },
  tenants: Tenants,
  alone: Phase,
): Promise<SceneResult> {
  tenants.addBatch(batchInstances);
  await stage.ready();
  const before = readKernelState(stage.instances);
  await settle();
  const contended = await measurePhase(tenants, 'contended', tell);
  const watch = watchSettings(stage.instances);
  const acted = await actOnOnset(loop, 'tenants', tell, { noisy: tenants.batch, watch });
  const sculpted = await measurePhase(tenants, 'sculpted', tell);
  await loop.stamp('observe');
  await untilGivenBack(watch, giveBackSeconds);
  await settle();
  const restored = await measurePhase(tenants, 'restored', tell);
  return {
    name: 'tenants',
    title: 'Tenants: a latency-critical instance beside eight batch instances',
    staged: `A latency-critical instance (${burnMicroseconds} µs of each ms) beside ${batchInstances} declared batch instances of one spinning thread each, one cgroup each, all of equal weight.`,
    phases: [alone, contended, sculpted, restored],
    ...acted,
    differences: differences(before, readKernelState(stage.instances)),
    settingsCompared: before.size,
  };
}

async function measurePhase(tenants: Tenants, name: PhaseName, tell: Tell): Promise<Phase> {
  tell(`tenants: ${name}, measured for ${phaseSeconds} s`);
  return { name, ...(await tenants.measure(name, phaseSeconds)) };
}

/** Time for the load balancer to find its level after something changed. */
function settle(): Promise<void> {
  return sleep(1000);
}
