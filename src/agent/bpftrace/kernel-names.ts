import { readFileSync } from 'node:fs';

/**
 * Which of these names are in the BTF of the kernel that runs: bpftrace refuses a script that names a field which is not there, and cannot ask whether it is.
 * Names that no other structure has. `btf`: its path; undefined: there is none, and bpftrace says so by itself.
 */
export function namesIn<Name extends string>(
  btf: string | undefined,
  names: readonly Name[],
): ReadonlySet<Name> {
  if (btf === undefined) return new Set(names);
  const text = readFileSync(btf);
  return new Set(names.filter(name => text.includes(`\0${name}\0`)));
}
