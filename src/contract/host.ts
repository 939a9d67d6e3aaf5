import * as z from 'zod';
import { cpuIdSchema, instanceSchema, startTicksSchema, tidSchema } from './instance.ts';

const cpusSchema = z.array(cpuIdSchema).max(8192);

/** Detail of `sculptor.topology`: the host as the planner knows it. Memory in bytes, `distances` as ACPI SLIT (10 = local). */
export const topologySchema = z.strictObject({
  hostId: z.string().min(1),
  hostName: z.string(),
  kernel: z.string(),
  cgroupVersion: z.union([z.literal(1), z.literal(2)]),
  cpus: z
    .array(
      z.strictObject({
        id: cpuIdSchema,
        online: z.boolean(),
        core: z.int(),
        package: z.int(),
        /** The lowest CPU that shares the last-level cache. */
        llc: z.int(),
        node: z.int().min(0),
      }),
    )
    .min(1),
  nodes: z.array(
    z.strictObject({
      id: z.int().min(0),
      distances: z.array(z.int()),
      memoryTotalBytes: z.number().min(0),
      memoryFreeBytes: z.number().min(0),
    }),
  ),
});

/** Who manages the allocation of an instance: its API is used first; `none` means that the cgroup file is free to write. */
export const ownerSchema = z.enum(['none', 'systemd', 'libvirt', 'container-runtime']);

/** One thread of an instance. `affinity` is what the kernel holds now; `ownMask`: it has a mask of its own (null: unknown). */
export const placedTaskSchema = z.strictObject({
  tid: tidSchema,
  tgid: tidSchema,
  startTicks: startTicksSchema,
  name: z.string(),
  vcpu: z.int().min(0).optional(),
  affinity: cpusSchema,
  ownMask: z.boolean().nullable(),
  /** The CPU it ran on last. */
  cpu: cpuIdSchema,
});

/** Detail of `sculptor.placement`: where one instance is and what it is given. */
export const placementSchema = z.strictObject({
  hostId: z.string().min(1),
  instance: instanceSchema,
  owner: ownerSchema,
  /** False when the instance has ended: forget it. */
  alive: z.boolean(),
  cgroup: z.strictObject({
    path: z.string().min(1),
    /** The cgroup it shares its weight with: siblings compete at this level. Null for the root. */
    parent: z.string().nullable(),
    /** cgroup v2 unit: 1..10000, 100 is the default (v1 shares × 100 / 1024). */
    weight: z.number().min(0).nullable(),
    idle: z.boolean().nullable(),
    /** CFS bandwidth quota in cores, of the tightest ancestor; null: none. */
    quotaCores: z.number().positive().nullable(),
  }),
  cpuset: z.strictObject({
    /** Path in the cpuset hierarchy; on v1 another tree than the cpu controller's, perhaps `/`. */
    path: z.string().nullable(),
    own: cpusSchema,
    effective: cpusSchema,
    /** What the parent would allow: the bound for widening. */
    parentEffective: cpusSchema,
  }),
  tasks: z.array(placedTaskSchema),
  /** All tasks; larger than `tasks.length` when only the hottest are listed. */
  taskCount: z.int().min(0),
  /** Bytes charged to its cgroup by NUMA node id (anonymous and page cache); absent where the memory controller does not tell. */
  bytesByNode: z.record(z.string(), z.number().min(0)).optional(),
});

export type Topology = z.infer<typeof topologySchema>;
export type Placement = z.infer<typeof placementSchema>;
export type PlacedTask = z.infer<typeof placedTaskSchema>;
export type Owner = z.infer<typeof ownerSchema>;
