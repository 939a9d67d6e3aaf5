import { execFileSync } from 'node:child_process';

/** Byte offsets of the members of a structure, and its size, as the BTF of a BPF object says. */
export type StructLayout = { readonly bytes: number; readonly offsets: Record<string, number> };

type BtfType = {
  readonly kind: string;
  readonly name: string;
  readonly size?: number;
  readonly members?: readonly { readonly name: string; readonly bits_offset: number }[];
};

/** Reads a structure of a built BPF object through bpftool, which needs no privilege for it. */
export function structLayout(object: string, name: string): StructLayout {
  const output = execFileSync('bpftool', ['btf', 'dump', 'file', object, '-j'], {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
  });
  const { types } = JSON.parse(output) as { types: BtfType[] };
  const found = types.find(type => type.kind === 'STRUCT' && type.name === name);
  if (found?.size === undefined) throw new Error(`${object}: no struct ${name} in its BTF`);
  return {
    bytes: found.size,
    offsets: Object.fromEntries((found.members ?? []).map(m => [m.name, m.bits_offset / 8])),
  };
}
