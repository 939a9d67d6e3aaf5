import { type CgroupLayout, cgroupIdOf } from './cgroups.ts';
import { readInode } from './read-file.ts';
import type { Roots } from './roots.ts';

/** What a process in a container may not be shown of the machine. */
type View = {
  /** The inode of this is `whole` where it is shown all. */
  readonly inode: (roots: Roots, layout: CgroupLayout) => number | null;
  readonly whole: number;
  /** What is there instead, and what an agent then cannot tell. */
  readonly found: string;
  readonly lost: string;
};

/** @see include/linux/proc_ns.h for the inodes of the namespaces that a machine begins with; the root of a hierarchy has 1 */
const views: readonly View[] = [
  {
    inode: (_, layout) => cgroupIdOf(layout, '/'),
    whole: 1,
    found: 'of the tree of cgroups a part is mounted',
    lost: 'cgroups outside of that part are ids that cannot be named (instance_unnamed)',
  },
  {
    inode: ({ proc }) => readInode(`${proc}/self/ns/cgroup`),
    whole: 0xeffffffb,
    found: 'a cgroup namespace of its own',
    lost: '/proc tells the cgroups of processes from another root',
  },
  {
    inode: ({ proc }) => readInode(`${proc}/self/ns/pid`),
    whole: 0xeffffffc,
    found: 'a pid namespace of its own',
    lost: 'threads outside of it are not in /proc, and their ids are others there: no placements, vCPUs and interfaces of VMs',
  },
];

/** How this process is shown less than the machine has, and what is lost by it, for a person; null: it is shown all. */
export type Narrowing = { readonly found: string; readonly lost: string };

export function findNarrowing(roots: Roots, layout: CgroupLayout): Narrowing | null {
  const narrow = views.filter(({ inode, whole }) => (inode(roots, layout) ?? whole) !== whole);
  if (narrow.length === 0) return null;
  return {
    found: narrow.map(({ found }) => found).join(', '),
    lost: narrow.map(({ lost }) => lost).join('; '),
  };
}

export const howToSeeAll =
  'run the container with --pid=host --cgroupns=host, all of /sys/fs/cgroup of the host mounted there, and the capabilities of docs/privileges.md (or --privileged)';
