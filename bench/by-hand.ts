import { readFileSync, writeFileSync } from 'node:fs';
import type { Stage, StagedInstance } from '../src/cli/demo/stage.ts';
import type { Tenants } from '../src/cli/demo/tenants.ts';
import { loadNative } from '../src/linux/native.ts';
import { hostRoots } from '../src/linux/roots.ts';
import { readCpuIds } from '../src/linux/topology.ts';

/** What an operator could set herself: the critical weight × 64, batch idle, batch confined to the last CPU. */
export const byHand = ['weight', 'idle', 'pinned'] as const;
export type ByHand = (typeof byHand)[number];

/** Sets one of them. @returns sets it back */
export function setByHand(stage: Stage, tenants: Tenants, name: ByHand): () => void {
  const undo = {
    weight: () => [writeFile(tenants.critical, weightFile(stage), value => value * 64)],
    idle: () => tenants.batch.map(each => writeFile(each, 'cpu.idle', () => 1)),
    pinned: () => tenants.batch.map(confine),
  }[name]();
  return () => {
    for (const each of undo) each();
  };
}

function weightFile({ layout }: Stage): string {
  return layout.version === 1 ? 'cpu.shares' : 'cpu.weight';
}

function writeFile(
  { folders }: StagedInstance,
  name: string,
  change: (value: number) => number,
): () => void {
  const path = `${folders[0]}/${name}`;
  const before = readFileSync(path, 'utf8').trim();
  writeFileSync(path, String(change(Number(before))));
  return () => writeFileSync(path, before);
}

function confine({ processes }: StagedInstance): () => void {
  const native = loadNative();
  const { online } = readCpuIds(hostRoots);
  const tids = Int32Array.from(processes.flatMap(({ pid }) => pid ?? []));
  const all = Int32Array.from(online);
  native.setAffinity(tids, all.slice(-1));
  return () => void native.setAffinity(tids, all);
}
