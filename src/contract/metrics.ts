import { agentMetrics, costMetrics, hostMetrics, outliersMetrics } from './metrics/agent.ts';
import { blockMetrics, vdiskMetrics } from './metrics/block.ts';
import { gateMetrics, intakeMetrics } from './metrics/gate.ts';
import { guestsMetrics, kvmMetrics, stealMetrics } from './metrics/kvm.ts';
import { accessMetrics, dirtyMetrics, faultsMetrics, memoryMetrics } from './metrics/memory.ts';
import { netMetrics, socketMetrics, tapMetrics } from './metrics/net.ts';
import { schedMetrics } from './metrics/sched.ts';

export { attr } from './attributes.ts';

/** Every metric of the product; names follow the semantic conventions where one means the same. */
export const metrics = {
  ...schedMetrics,
  ...memoryMetrics,
  ...dirtyMetrics,
  ...accessMetrics,
  ...faultsMetrics,
  ...blockMetrics,
  ...vdiskMetrics,
  ...socketMetrics,
  ...netMetrics,
  ...tapMetrics,
  ...kvmMetrics,
  ...guestsMetrics,
  ...stealMetrics,
  ...hostMetrics,
  ...outliersMetrics,
  ...agentMetrics,
  ...costMetrics,
  ...gateMetrics,
  ...intakeMetrics,
};

export type MetricName = keyof typeof metrics;

/** Value of `attr.origin` of everything that came through the gate. */
export const guestOrigin = 'guest';

/** The series the planner and the verification stand on. */
export const headlineMetrics = [
  'container.cpu.time',
  'sculptor.runqueue.wait',
  'sculptor.cpu.throttled.time',
] as const;

/** Scope name of everything that a part of this product emits; a part never takes its own scope for input. */
export const scopes = {
  agent: 'sculptor.agent',
  engine: 'sculptor.engine',
  sculptor: 'sculptor.sculptor',
} as const;

/** Of every scope: the version in package.json. */
export const scopeVersion = '0.1.0';

/** Of every scope: the semantic conventions that names and attributes of theirs are taken from. */
export const schemaUrl = 'https://opentelemetry.io/schemas/1.38.0';
