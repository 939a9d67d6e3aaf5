import type { ActionReason } from '../../contract/action.ts';
import type { Move } from '../../contract/recommendation.ts';
import type { Kernel } from '../kernel.ts';

/** Why something cannot be done; `message` names what, where, got and wanted. */
export type Problem = ActionReason;

export type UndoKind = 'weight' | 'idle' | 'idle-weight' | 'cpuset' | 'affinity' | 'born';

/**
 * One value to give back. `key` is a cgroup path or a tid; `identity` its inode or its start ticks: with it the key means
 * the same thing for ever within one boot. `ownMask`: the thread had a mask of its own (null: the kernel does not tell); its
 * `before` is then what it asked for, also where its cpuset hides a part.
 */
export type UndoEntry = {
  readonly resource: string;
  readonly kind: UndoKind;
  readonly key: string;
  readonly identity: number;
  readonly before: string;
  readonly wanted: string;
  readonly ownMask: boolean | null;
  readonly tgid: number;
};

/** `gone`: what held the value has ended. `yielded`: something else wrote it meanwhile; it was left as found. */
export type UndoResult = {
  readonly state: 'restored' | 'gone' | 'yielded' | 'failed';
  readonly message: string;
};

/** What a move would change, read without touching anything. `widens`: a CPU is allowed that was not. */
export type Snapshot = {
  readonly entries: readonly UndoEntry[];
  readonly widens: boolean;
};

/** One kind of thing that can be set. Only actuators write to the system. */
export type Actuator = {
  /** Everything that is wrong with a move now; empty when it can be made. */
  validate(kernel: Kernel, move: Move): Problem[];
  /** The exact present values of what the move sets. Entries are applied in order and undone in reverse. */
  snapshot(kernel: Kernel, move: Move): Snapshot;
  /** Sets what the entries want. @throws ActuationError at the first refusal; earlier entries stay applied */
  apply(kernel: Kernel, entries: readonly UndoEntry[]): void;
  /** Threads of the move that were made while it was applied and escaped it; absent where nothing can. */
  latecomers?(kernel: Kernel, move: Move, known: readonly UndoEntry[]): UndoEntry[];
  /** What the kernel holds now, by entry: `held` is null when it is gone, `ours` whether it is what was written. */
  readBack(kernel: Kernel, entries: readonly UndoEntry[]): { held: string | null; ours: boolean }[];
  /** Gives values back that still are ours. `all`: every entry of the action. Repeating it changes nothing. */
  undo(kernel: Kernel, entries: readonly UndoEntry[], all: readonly UndoEntry[]): UndoResult[];
  /** What would be done, in words. */
  dryRun(move: Move): string;
};
