import * as z from 'zod';

/** `host` names the machine itself in metrics (per-CPU time); nothing ever moves it. */
export const instanceKindSchema = z.enum(['vm', 'container', 'cgroup', 'process-group', 'host']);

/** A child compute instance. `id`: a VM's UUID where its QEMU was given one, else the cgroup path from the hierarchy's root, such as `/machine/a`. */
export const instanceSchema = z.strictObject({
  id: z.string().min(1).max(4096),
  kind: instanceKindSchema,
  name: z.string().min(1).max(4096),
});

/**
 * Whether an id is one and the same thing however it is looked at: a path as the kernel writes it, or a name without slashes. `/a/`
 * and `/b/../a` lead to `/a` as well, and no rule of the policy that is about `/a` matches them.
 */
function isPlainId(id: string): boolean {
  if (id === '/') return true;
  const [first, ...parts] = id.split('/');
  if (parts.length === 0) return true;
  return first === '' && !parts.some(part => part === '' || part === '.' || part === '..');
}

const plainId = {
  message: 'wanted a path from / without empty parts, . and .., or a name without /',
};

/** What a move is about. */
export const movedInstanceSchema = instanceSchema.refine(({ id }) => isPlainId(id), {
  ...plainId,
  path: ['id'],
});

export const tidSchema = z.int().min(1).max(4_194_304);

/** Start of a task in clock ticks since boot: field 22 of /proc/PID/stat. With the tid it names a task for ever. */
export const startTicksSchema = z.int().min(0);

export const cpuIdSchema = z.int().min(0).max(8191);

/** CPUs in ascending order, each once. */
export const cpuListSchema = z
  .array(cpuIdSchema)
  .min(1)
  .max(8192)
  .refine(cpus => cpus.every((cpu, i) => i === 0 || cpu > (cpus[i - 1] ?? -1)), {
    message: 'CPUs must ascend, each once',
  });

/**
 * What the kernel schedules, or a class of short-lived ones that is placed by inheritance: all of a cgroup, or the
 * children of a parent that run one executable.
 */
export const taskSchema = z.union([
  z.strictObject({ kind: z.literal('thread'), tid: tidSchema, startTicks: startTicksSchema }),
  z.strictObject({
    kind: z.literal('vcpu'),
    index: z.int().min(0).max(4095),
    tid: tidSchema,
    startTicks: startTicksSchema,
  }),
  z.strictObject({
    kind: z.literal('class'),
    cgroup: z.string().min(1).max(4096).refine(isPlainId, plainId),
  }),
  z.strictObject({
    kind: z.literal('class'),
    parent: z.strictObject({ tgid: tidSchema, startTicks: startTicksSchema }),
    exe: z.string().min(1).max(4096),
  }),
]);

export type InstanceKind = z.infer<typeof instanceKindSchema>;
export type Instance = z.infer<typeof instanceSchema>;
export type Task = z.infer<typeof taskSchema>;
