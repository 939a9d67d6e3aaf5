/** Where the kernel's files are: injected, so that tests run on a tree of their own. */
export type Roots = { readonly proc: string; readonly sys: string; readonly cgroup: string };

export const hostRoots: Roots = { proc: '/proc', sys: '/sys', cgroup: '/sys/fs/cgroup' };
