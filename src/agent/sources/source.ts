import type { AgentConfig } from '../../contract/config.ts';
import type { ErrorCode } from '../../contract/errors.ts';
import type { OutgoingEvent } from '../../contract/events.ts';
import type { Clock, Say } from '../../contract/ports.ts';
import type { Capability } from '../../linux/capabilities.ts';
import type { CgroupLayout } from '../../linux/cgroups.ts';
import type { Native } from '../../linux/native.ts';
import type { Roots } from '../../linux/roots.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { runBpftrace } from '../bpftrace/run.ts';
import type { GuestView } from '../gate/guest-view.ts';
import type { LivingInstance } from '../instances/instances.ts';
import type { RunByCpu } from '../memory/locality.ts';
import type { VcpuBook } from '../vms/vcpus.ts';

/**
 * One question asked of the kernel, and its answer per instance: memory, KVM exits, block I/O … Each is started apart, may
 * be refused by the kernel, and is then told as unavailable while the others run. All calls come from one thread, in turn;
 * what one throws is counted (`failed_reads`) and said, and hurts no other source.
 *
 * A source keeps what it counts by life (`WeakMap<LivingInstance, …>`, or a `Tally`), not by instance id: a cgroup may be
 * removed and made anew under its name, and the first life is still told until an export has carried it.
 */
export type Source = {
  /** Short and lower-case: as in the table of metrics; a prefix of its reasons of loss, and the value of `sculptor.agent.source`. */
  readonly name: string;
  /**
   * Reads the kernel, once before each export of details (every 10 s by default). Bounded: it holds up the reading of the
   * totals, so it takes a few ms for 200 instances; what takes longer is done on a timer of the source's own, and taken
   * over here. Where it throws, the samples of the reading before stand.
   * `living`: every instance, with its cgroups (`members`: kernel id → path).
   */
  readonly read: (living: readonly LivingInstance[]) => void;
  /**
   * What is known of one life as of the last `read`: cumulative since `living.start`, never falling. Also asked for a life
   * that has ended (after `forget`), so it must not look at the kernel. Series of tasks have `task`, and are none of its totals.
   */
  readonly samples: (living: LivingInstance) => readonly Sample[];
  /** What is known of the host as a whole as of the last `read`; `start` of its series is the caller's unless it says one. */
  readonly host: () => readonly (Omit<Sample, 'start'> & { readonly start?: number })[];
  /** What was not counted since the source was started, by reason; a reason that never happened is there as 0. */
  readonly lost: () => Readonly<Record<string, number>>;
  /**
   * These cgroups are gone for good: cgroup id → the life it belonged to, null where it was never named. The last chance to
   * take over what the kernel counted since the last `read`; then the keys are to be dropped.
   */
  readonly forget: (gone: ReadonlyMap<number, LivingInstance | null>) => void;
  /** Why it measures nothing at present, where it goes on by itself; null, or absent: it runs. */
  readonly trouble?:
    | (() => { readonly code: ErrorCode | 'starting'; readonly why: string } | null)
    | undefined;
  /** Of one that begins by itself: resolves when it measures, to null, or when it does not, to why. */
  readonly attached?: Promise<string | null> | undefined;
  /** Detaches and frees everything; resolves when no process of it is left. */
  readonly stop: () => void | Promise<void>;
};

/** A probe that may be a script (src/agent/bpftrace), which comes and goes by itself. */
export type ComesAndGoes = Pick<Source, 'trouble' | 'attached' | 'stop'>;

/** What a source may stand on; everything is injected. */
export type SourceContext = {
  /** Its settings change while the agent runs: read them when they are needed. */
  readonly config: AgentConfig;
  readonly native: Native;
  /** Where the driver is bpftrace, which scripts of bpf/ are to be asked by; else null. */
  readonly bpftrace: typeof runBpftrace | null;
  readonly roots: Roots;
  readonly layout: CgroupLayout;
  /** ns that each cgroup has run on each CPU, read now. */
  readonly runByCpu: () => RunByCpu;
  readonly vcpus: Pick<VcpuBook, 'of' | 'learn' | 'untold'>;
  /** What a VM's own agent said through the gate; null where it has said nothing. */
  readonly guests: (instanceId: string) => GuestView | null;
  readonly hostId: string;
  /** To the pipeline, by the bounded queue of all events. */
  readonly emit: (event: OutgoingEvent) => void;
  readonly clock: Clock;
  readonly say: Say;
};

/** A source that can be started: one entry of `sourceKinds` in sources.ts. */
export type SourceKind = {
  readonly name: string;
  /** What is not told without it, for a person: `sculpt doctor` says so. */
  readonly tells: string;
  /** Capabilities without which it is refused; absent: none. docs/privileges.md has them as they were measured. */
  readonly needs?: readonly Capability[];
  /** Those with which it tells more, as configured; `sys`: where sysfs is. Kept only where something of it is selected. */
  readonly gains?: (config: AgentConfig, sys: string) => readonly Capability[];
  /** Runs though nothing of it is told, while this holds: what it teaches others, the placements stand on. No capability is kept for this alone. */
  readonly neededAnyway?: (context: SourceContext) => boolean;
  /** What it lacks may come while the agent runs, such as a module of the kernel: it is tried again now and then. */
  readonly comesLater?: boolean;
  /**
   * In place of `start` for who only wants to know whether it can be started, where starting takes something away that one at a
   * time can have: changes nothing. `isSure`: what was seen says that it can.
   * @throws SculptorError as `start`
   */
  readonly look?: (context: SourceContext) => { readonly found: string; readonly isSure: boolean };
  /** @throws SculptorError which says what the kernel refused or lacks; then nothing of it is left */
  readonly start: (context: SourceContext) => Source;
};
