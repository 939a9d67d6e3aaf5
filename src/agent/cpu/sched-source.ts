import { attr } from '../../contract/metrics.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { LivingInstance } from '../instances/instances.ts';
import type { SchedProbe } from '../probes/sched.ts';
import { counterWords, word } from '../probes/sched-layout.ts';
import type { Counters } from '../sources/counters.ts';
import type { Source } from '../sources/source.ts';
import { createTally } from '../sources/tally.ts';
import type { HotTask } from '../tasks/hot-tasks.ts';
import { createPreemptors } from './preemptors.ts';
import { createTaskSamples, detailSamples, type ModeTimes, preemptorSamples } from './samples.ts';

/** What the scheduler's probe knows beside the totals: details of the instances, and the hottest tasks. */
export function createSchedSource<Task>(options: {
  readonly probe: Pick<SchedProbe, 'detailsOf' | 'takePairs' | 'readWaitByCpu'> & {
    readonly readDetails: () => Omit<ReturnType<SchedProbe['readDetails']>, 'tasks'> & {
      readonly tasks: readonly Task[];
    };
  };
  /** Seconds since the epoch. */
  readonly now: () => number;
  /** Those that are online now. */
  readonly cpus: () => readonly number[];
  /** Of the tasks that have changed, those that get series of their own. */
  readonly hottest: (changed: readonly Task[]) => readonly HotTask[];
}): Source {
  const { probe, hottest, cpus } = options;
  const tally = createTally(counterWords);
  const modes = new WeakMap<LivingInstance, Modes>();
  const preemptors = createPreemptors(options.now);
  const taskSamples = createTaskSamples();
  let lives = new Map<number, LivingInstance>();
  let tasks = new Map<LivingInstance, Sample[]>();
  let byCpu: Omit<Sample, 'start'>[] = [];

  const take = (living: LivingInstance): void => {
    modes.set(living, nextModes(modes.get(living) ?? noModes, tally.of(living)));
  };

  return {
    name: 'sched',
    read: living => {
      const details = probe.readDetails();
      lives = new Map();
      for (const one of living) {
        for (const id of one.members.keys()) {
          lives.set(id, one);
          const counters = details.instances.get(id);
          if (counters) tally.add(one, id, counters);
        }
        take(one);
      }
      preemptors.take(details.pairs, lives);
      byCpu = waitSamples(probe.readWaitByCpu, cpus());
      tasks = new Map();
      taskSamples.begin();
      for (const task of hottest(details.tasks)) {
        const one = lives.get(task.cgroupId);
        if (one) tasks.set(one, [...(tasks.get(one) ?? []), ...taskSamples.of(task)]);
      }
    },
    samples: living => [
      ...detailSamples(tally.of(living), modes.get(living) ?? noModes, living.start),
      ...preemptorSamples(preemptors.of(living, word(tally.of(living), 'waitNs')), living.start),
      ...(tasks.get(living) ?? []),
    ],
    host: () => byCpu,
    lost: () => ({}),
    forget: gone => {
      preemptors.take(probe.takePairs(), { get: id => gone.get(id) ?? lives.get(id) });
      const last = probe.detailsOf([...gone.keys()]);
      for (const [id, living] of gone) {
        const counters = last.get(id);
        if (!living || !counters) continue;
        tally.add(living, id, counters);
        take(living);
        tasks.delete(living);
      }
      tally.forget(gone.keys());
    },
    stop: () => undefined,
  };
}

function waitSamples(
  read: SchedProbe['readWaitByCpu'],
  cpus: readonly number[],
): Omit<Sample, 'start'>[] {
  return read(cpus).map((ns, nth) => ({
    metric: 'sculptor.cpu.runqueue.wait',
    attributes: { [attr.cpu]: cpus[nth] ?? 0 },
    value: ns / 1e9,
  }));
}

/** Of one life: how far it was divided, and into what. */
type Modes = ModeTimes & { readonly ran: number; readonly ticks: ModeTimes };

const noModes: Modes = { userNs: 0, kernelNs: 0, ran: 0, ticks: { userNs: 0, kernelNs: 0 } };

/**
 * What ran since the last reading is divided as the kernel's ticks of that time were: they only sample, so their own sum is
 * not what ran. As proc(5) divides the time of a process, but by interval. Without a tick in it, as ever before; without any,
 * it is the user's.
 */
function nextModes(last: Modes, counters: Counters): Modes {
  const [ran, userNs, kernelNs] = [
    word(counters, 'runNs'),
    word(counters, 'userNs'),
    word(counters, 'kernelNs'),
  ];
  const [user, kernel] = [userNs - last.ticks.userNs, kernelNs - last.ticks.kernelNs];
  const ratio =
    user + kernel > 0 ? kernel / (user + kernel) : kernelNs / Math.max(1, userNs + kernelNs);
  return {
    userNs: last.userNs + (ran - last.ran) * (1 - ratio),
    kernelNs: last.kernelNs + (ran - last.ran) * ratio,
    ran,
    ticks: { userNs, kernelNs },
  };
}
