import type { Manifest, TensorSpec } from './manifest.ts';

/** A tensor as the runtime describes it. */
export type MetTensor = {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly (number | string)[];
};

export type Mismatch = { readonly expected: string; readonly actual: string };

/** Where the tensors of a model differ from its manifest; null: nowhere. Order does not matter, names and sizes do. */
export function tensorMismatch(
  manifest: Manifest,
  met: { readonly inputs: readonly MetTensor[]; readonly outputs: readonly MetTensor[] },
): Mismatch | null {
  for (const side of ['inputs', 'outputs'] as const) {
    const expected = manifest[side].map(inWords).sort().join('; ');
    const actual = met[side].map(metInWords).sort().join('; ');
    if (expected !== actual)
      return { expected: `${side} ${expected}`, actual: `${side} ${actual}` };
  }
  return null;
}

function inWords({ name, dtype, shape }: TensorSpec): string {
  return `${name} ${dtype} [${shape.join(', ')}]`;
}

/** A dimension without a fixed size is the number of series, whatever its exporter called it. */
function metInWords({ name, type, shape }: MetTensor): string {
  const sizes = shape.map(size => (typeof size === 'string' || size < 0 ? 'batch' : size));
  return `${name} ${type} [${sizes.join(', ')}]`;
}
