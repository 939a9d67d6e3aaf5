import { attr } from '../../contract/metrics.ts';
import type { Sample } from '../../otlp/sample.ts';
import { type GuestView, silentSeconds } from '../gate/guest-view.ts';
import type { SourceKind } from '../sources/source.ts';

/**
 * A VM's delays from both sides: what its own agent says of each vCPU, told by the host beside the wait of the thread that
 * runs it (`sculptor.task.runqueue.wait`), of one instance, at one time. What of a wait in the guest was the host's is then
 * seen by the eye: at most the host's wait of that vCPU.
 */
export const guestSource: SourceKind = {
  name: 'guests',
  tells: "what guests' own agents say of their vCPUs, beside what the host says of them",
  start: ({ guests, vcpus, clock }) => ({
    name: 'guests',
    read: () => undefined,
    samples: living => {
      const view = living.instance.kind === 'vm' ? guests(living.instance.id) : null;
      // What the host does not know for a vCPU of it, a guest cannot make series of.
      return view ? viewSamples(view, new Set(vcpus.of(living).values()), clock.unixSeconds()) : [];
    },
    host: () => [],
    lost: () => ({}),
    forget: () => undefined,
    stop: () => undefined,
  }),
};

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
