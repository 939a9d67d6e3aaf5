import type { BpfObject, MapSums, Native } from './native.ts';

/** What BPF takes and did in this process. Runs are those that the kernel counted: it does while its `bpf_stats` are on. */
export type BpfCost = {
  /** Of what is loaded now: maps and programs, without what tasks and sockets carry. */
  readonly memoryBytes: number;
  /** Of all that was ever loaded. */
  readonly runs: number;
  readonly runNs: number;
};

/** A hash as of the last time that it was read whole. */
export type MapFill = {
  readonly map: string;
  readonly entries: number;
  readonly maxEntries: number;
};

export type BpfAccount = {
  /** Loads as it did before; what is loaded is in the account until it is closed. */
  readonly native: Native;
  /** Asks the kernel. Null where that fails, as with a /proc of another pid namespace, or no descriptor left to open a file. */
  readonly cost: () => BpfCost | null;
  /** Asks nobody: a map that nobody reads whole is not among them. */
  readonly fills: () => MapFill[];
};

type Runs = Pick<BpfCost, 'runs' | 'runNs'>;

/** Keeps account of the BPF objects that are loaded through what it answers. */
export function createBpfAccount(native: Native): BpfAccount {
  const loaded = new Map<BpfObject, ReadonlyMap<string, MapFill>>();
  let past: Runs = { runs: 0, runNs: 0 };
  const take = (object: BpfObject): BpfObject => {
    loaded.set(object, watchReads(object));
    const { close } = object;
    replace(object, 'close', () => {
      try {
        if (loaded.delete(object)) past = sumOf([past, runsOf(object)]);
      } finally {
        close.call(object);
      }
    });
    return object;
  };
  return {
    native: { ...native, loadObject: (path, options) => take(native.loadObject(path, options)) },
    cost: () => {
      const objects = [...loaded.keys()];
      try {
        return {
          memoryBytes: objects.reduce((bytes, object) => bytes + object.memoryBytes(), 0),
          ...sumOf([past, ...objects.map(runsOf)]),
        };
      } catch {
        return null;
      }
    },
    fills: () => [...loaded.values()].flatMap(fills => [...fills.values()]),
  };
}

/** Notes what each reading of a whole map finds. */
function watchReads(object: BpfObject): ReadonlyMap<string, MapFill> {
  const fills = new Map<string, MapFill>();
  for (const name of ['readMap', 'takeMap', 'readSums', 'takeSums', 'readWord'] as const) {
    const read: (map: string, ...which: number[]) => Pick<MapSums, 'count' | 'maxEntries'> =
      object[name];
    replace(object, name, (map: string, ...which: number[]) => {
      const whole = read.call(object, map, ...which);
      fills.set(map, { map, entries: whole.count, maxEntries: whole.maxEntries });
      return whole;
    });
  }
  return fills;
}

/** The addon's methods cannot be assigned to. */
function replace(object: BpfObject, name: keyof BpfObject, value: unknown): void {
  Object.defineProperty(object, name, { value });
}

function runsOf(object: BpfObject): Runs {
  return sumOf(Object.values(object.programStats()));
}

function sumOf(all: readonly Runs[]): Runs {
  return {
    runs: all.reduce((sum, { runs }) => sum + runs, 0),
    runNs: all.reduce((sum, { runNs }) => sum + runNs, 0),
  };
}
