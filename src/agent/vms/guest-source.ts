import { attr } from '../../contract/metrics.ts';
import type { Sample } from '../../otlp/sample.ts';
import { type GuestView, silentSeconds, type VcpuView } from '../gate/guest-view.ts';
import type { LivingInstance } from '../instances/instances.ts';
import type { SourceKind } from '../sources/source.ts';

/**
 * A VM's delays from both sides: what its own agent says of each vCPU, told by the host beside the wait of the thread that
 * runs it (`sculptor.task.runqueue.wait`), of one instance, at one time. What of a wait in the guest was the host's is then
 * seen by the eye: at most the host's wait of that vCPU.
 */
export const guestSource: SourceKind = {
  name: 'guests',
  tells: "what guests' own agents say of their vCPUs, beside what the host says of them",
  start: ({ guests, vcpus, clock }) => {
    const book = createLifeBook(clock.unixSeconds());
    const take = (living: LivingInstance): void => {
      const view = living.instance.kind === 'vm' ? guests(living.instance.id) : null;
      if (view) book.take(living, view);
    };
    return {
      name: 'guests',
      read: living => {
        for (const one of living) take(one);
      },
      // What the host does not know for a vCPU of it, a guest cannot make series of.
      samples: living =>
        viewSamples(book.of(living), new Set(vcpus.of(living).values()), clock.unixSeconds()),
      host: () => [],
      lost: () => ({}),
      forget: gone => {
        for (const living of new Set(gone.values())) if (living) take(living);
      },
      stop: () => undefined,
    };
  },
};

/** The gate goes on with its view of a guest from one life of its VM to the next: each life has what came in it, since `began`. */
function createLifeBook(began: number) {
  const taken = new WeakMap<GuestView, GuestView>();
  const lives = new WeakMap<LivingInstance, Map<number, VcpuView>>();
  const of = (living: LivingInstance): GuestView => lives.get(living) ?? new Map();
  const take = (living: LivingInstance, view: GuestView): void => {
    const own = new Map(of(living));
    for (const [index, now] of view) {
      const before = taken.get(view)?.get(index) ?? (now.start < began ? now : undefined);
      if (now === before) continue;
      const sum = own.get(index);
      own.set(index, {
        start: sum?.start ?? Math.max(now.start, living.start),
        at: now.at,
        waitSeconds: (sum?.waitSeconds ?? 0) + now.waitSeconds - (before?.waitSeconds ?? 0),
        stealSeconds: (sum?.stealSeconds ?? 0) + now.stealSeconds - (before?.stealSeconds ?? 0),
      });
    }
    lives.set(living, own);
    taken.set(view, new Map(view));
  };
  return { of, take };
}

function viewSamples(view: GuestView, known: ReadonlySet<number>, now: number): Sample[] {
  return [...view].flatMap(([index, { start, at, waitSeconds, stealSeconds }]): Sample[] => {
    if (!known.has(index) || now - at > silentSeconds) return [];
    const attributes = { [attr.vcpuIndex]: index };
    return [
      { metric: 'sculptor.vcpu.guest.runqueue.wait', attributes, start, value: waitSeconds },
      { metric: 'sculptor.vcpu.guest.steal', attributes, start, value: stealSeconds },
    ];
  });
}
