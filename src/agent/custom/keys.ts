/** Why a value of a map is not told. */
export type KeyRefusal =
  /** More commas than the labels account for: which part they belong to cannot be told. */
  | 'ambiguous_key'
  /** Fewer parts than labels. */
  | 'missing_key'
  | 'key_too_long';

export type KeyParts = {
  /** By label, without `cgroup`. */
  readonly attributes: Readonly<Record<string, string>>;
  /** Null: no label is `cgroup`, and so it is the host's. */
  readonly cgroupId: number | null;
};

/** The label that names an instance, by the kernel's id of its cgroup. */
export const cgroupLabel = 'cgroup';

/** A kernel stack of 127 frames is about as much. */
const maxKeyLength = 8192;
/** The root of every hierarchy. A task in an autogroup has no cgroup that schedules it: it reads as 0, and is the root's. */
const rootCgroupId = 1;

/**
 * Reads keys of a map as the values of these labels. bpftrace joins the parts of a key by commas and escapes none, so with
 * two or more texts a comma within one is ambiguous, and refused rather than told under a wrong label. One text takes all
 * the commas: a cgroup's id has none.
 */
export function createKeyReader(
  labels: readonly string[],
): (key: string | null) => KeyParts | KeyRefusal {
  const texts = labels.filter(label => label !== cgroupLabel);
  const text = texts.length === 1 ? '([^]*)' : '([^,]*)';
  const pattern = new RegExp(
    `^${labels.map(label => (label === cgroupLabel ? '(\\d+)' : text)).join(',')}$`,
  );
  return key => {
    if (labels.length === 0)
      return key === null ? { attributes: {}, cgroupId: null } : 'ambiguous_key';
    if (key === null) return 'missing_key';
    if (key.length > maxKeyLength) return 'key_too_long';
    const parts = pattern.exec(key)?.slice(1);
    if (!parts) return key.split(',').length < labels.length ? 'missing_key' : 'ambiguous_key';
    const pairs = labels.map((label, i) => [label, parts[i] ?? ''] as const);
    const cgroup = pairs.find(([label]) => label === cgroupLabel)?.[1];
    return {
      attributes: Object.fromEntries(pairs.filter(([label]) => label !== cgroupLabel)),
      cgroupId: cgroup === undefined ? null : Number(cgroup) || rootCgroupId,
    };
  };
}
