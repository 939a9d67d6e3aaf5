import type { Move, Recommendation } from '../contract/recommendation.ts';
import type { Actuator, Problem, UndoEntry } from './actuators/actuator.ts';
import { problem } from './actuators/cgroup-file.ts';
import { chooseActuator } from './actuators/choose.ts';
import { cpusetOrder } from './actuators/cpuset.ts';
import type { Kernel } from './kernel.ts';

/** What a recommendation means on this host now; made without touching anything. */
export type Plan = {
  readonly steps: readonly { readonly move: Move; readonly actuator: Actuator }[];
  /** In the order in which they are applied: what widens first, what narrows last. */
  readonly entries: readonly UndoEntry[];
  /** Instances that would get CPUs they have not now. */
  readonly widened: readonly string[];
  readonly problems: readonly Problem[];
};

/** Chooses an actuator for each move, validates it against the present, and reads the exact present values. */
export function planOf(kernel: Kernel, recommendation: Pick<Recommendation, 'moves'>): Plan {
  const steps: { move: Move; actuator: Actuator }[] = [];
  const entries: UndoEntry[] = [];
  const widened: string[] = [];
  const problems: Problem[] = [];
  for (const [i, move] of recommendation.moves.entries()) {
    const actuator = chooseActuator(kernel, move);
    const wrong = actuator ? validated(kernel, actuator, move) : [noActuator(i, move)];
    problems.push(...wrong);
    if (!actuator || wrong.length > 0) continue;
    const snapshot = actuator.snapshot(kernel, move);
    steps.push({ move, actuator });
    entries.push(...snapshot.entries);
    if (snapshot.widens) widened.push(move.instance.id);
  }
  problems.push(...collisions(recommendation.moves, entries));
  return { steps, entries: inOrder(entries), widened, problems };
}

function validated(kernel: Kernel, actuator: Actuator, move: Move): Problem[] {
  return move.instance.kind === 'host'
    ? [problem('protected', `instance ${move.instance.id}: the host itself is never moved`)]
    : actuator.validate(kernel, move);
}

function noActuator(index: number, move: Move): Problem {
  return problem(
    'no-actuator',
    `moves.${index} of ${move.instance.id}: got ${Object.keys(move.set).join()}; this version sets weight, idle and cpus`,
  );
}

/** One resource set twice could not be put in order; a cpuset and the masks below it cannot be told apart when read back. */
function collisions(moves: readonly Move[], entries: readonly UndoEntry[]): Problem[] {
  const seen = new Set<string>();
  const problems: Problem[] = [];
  for (const { resource, kind } of entries) {
    if (kind !== 'born' && seen.has(resource)) {
      problems.push(problem('overlap', `${resource}: set by two moves; wanted one`));
    }
    seen.add(resource);
  }
  const cpuMoves = moves.filter(move => 'cpus' in move.set).map(move => move.instance.id);
  const twice = cpuMoves.find((id, i) => cpuMoves.indexOf(id) !== i);
  if (twice !== undefined && entries.some(entry => entry.kind === 'cpuset')) {
    problems.push(
      problem('overlap', `instance ${twice}: its CPUs are set by two moves; wanted one`),
    );
  }
  return problems;
}

/** Everything but cpusets goes between those that widen and those that narrow. */
function inOrder(entries: readonly UndoEntry[]): UndoEntry[] {
  const rank = (entry: UndoEntry) => (entry.kind === 'cpuset' ? cpusetOrder(entry) : 50_000);
  return [...entries].sort((a, b) => rank(a) - rank(b));
}
