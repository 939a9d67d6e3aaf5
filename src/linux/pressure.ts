import { readText } from './read-file.ts';
import type { Roots } from './roots.ts';

export const pressureResources = ['cpu', 'memory', 'io'] as const;
export type PressureResource = (typeof pressureResources)[number];

/** Stall time since boot, or since the cgroup was made, in seconds: at least one task waited (some), or all did (full). */
export type Pressure = { readonly someSeconds: number; readonly fullSeconds: number };

/** Of the host; null where the kernel does not account for it. */
export function readHostPressure(roots: Roots, resource: PressureResource): Pressure | null {
  return parsePressure(readText(`${roots.proc}/pressure/${resource}`));
}

/** Of a cgroup v2; null when it is gone, or has no account (`cgroup.pressure`, and the root, which is the host). */
export function readCgroupPressure(folder: string, resource: PressureResource): Pressure | null {
  return parsePressure(readText(`${folder}/${resource}.pressure`));
}

/** By resource, of those that the kernel tells of. */
export function pressuresBy(
  read: (resource: PressureResource) => Pressure | null,
): Map<PressureResource, Pressure> {
  return new Map(
    pressureResources.flatMap(resource => {
      const pressure = read(resource);
      return pressure === null ? [] : [[resource, pressure]];
    }),
  );
}

/** @see Documentation/accounting/psi.rst: `total` is in µs; before 5.13 `cpu` has no `full`. */
function parsePressure(text: string | null): Pressure | null {
  const some = /^some .*total=(\d+)$/m.exec(text ?? '')?.[1];
  if (some === undefined) return null;
  const full = /^full .*total=(\d+)$/m.exec(text ?? '')?.[1];
  return { someSeconds: Number(some) / 1e6, fullSeconds: Number(full ?? 0) / 1e6 };
}
