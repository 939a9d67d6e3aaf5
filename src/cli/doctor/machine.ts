import { existsSync } from 'node:fs';
import { loadNative, type Native } from '../../linux/native.ts';
import { hostRoots, type Roots } from '../../linux/roots.ts';

/** The machine as the doctor sees it: injected, so that tests give it another one. */
export type Machine = {
  readonly roots: Roots;
  readonly exists: (path: string) => boolean;
  readonly native: () => Native;
  readonly nodeVersion: string;
  readonly searchPath: readonly string[];
};

export const thisMachine: Machine = {
  roots: hostRoots,
  exists: existsSync,
  native: loadNative,
  nodeVersion: process.versions.node,
  searchPath: (process.env['PATH'] ?? '').split(':'),
};
