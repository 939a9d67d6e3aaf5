import { attr } from '../../contract/metrics.ts';
import { readCpuTimes } from '../../linux/procfs.ts';
import { readText } from '../../linux/read-file.ts';
import type { Roots } from '../../linux/roots.ts';
import type { Source, SourceKind } from '../sources/source.ts';

/** Within a guest: what its hypervisor kept from each of its vCPUs. On a machine of its own it tells nothing. */
export const stealSource: SourceKind = {
  name: 'steal',
  tells: "the steal time of this guest's own vCPUs",
  start: ({ roots }) => {
    const guest = isGuest(roots);
    let steal: ReturnType<Source['host']> = [];
    /** The kernel counts since it was booted. */
    const before = new Map<number, number>();
    return {
      name: 'steal',
      read: () => {
        if (!guest) return;
        steal = readCpuTimes(roots).map(({ cpu, stealSeconds }) => {
          if (!before.has(cpu)) before.set(cpu, stealSeconds);
          return {
            metric: 'sculptor.vcpu.steal',
            attributes: { [attr.vcpuIndex]: cpu },
            value: stealSeconds - (before.get(cpu) ?? 0),
          };
        });
      },
      samples: () => [],
      host: () => steal,
      lost: () => ({}),
      forget: () => undefined,
      stop: () => undefined,
    };
  },
};

/** Whether this kernel runs under a hypervisor, as the CPU tells it (x86). */
function isGuest(roots: Roots): boolean {
  return /^flags\s*:.*\bhypervisor\b/m.test(readText(`${roots.proc}/cpuinfo`) ?? '');
}
