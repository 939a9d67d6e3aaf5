import type { LockdownLab } from '../inside/lockdown.ts';
import { withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

/** What each source is for doctor, where it was started, or refused, for real. */
const asSeen = (doctor: LockdownLab['doctor'], source: string) => doctor[`source ${source}`]?.state;

for (const kernel of labKernels)
  for (const level of ['integrity', 'confidentiality'] as const)
    needsLab(kernel)(
      `on Debian's ${kernel} with lockdown=${level} all is told that the kernel lets be seen, and what is not is said`,
      async t => {
        t.timeout(300_000);
        const options = { kernel, kernelArguments: `lockdown=${level}` };
        const { lockdown, sources, metrics, doctor, lost } = await withLab(options, async lab => {
          const script = 'cd /checkout && node test/lab/inside/lockdown.ts';
          return JSON.parse(await lab.run(script, { timeoutSeconds: 200 })) as LockdownLab;
        });
        t.log(JSON.stringify({ sources, doctor }));
        t.true(lockdown.includes(`[${level}]`), lockdown);
        const isOpen = level === 'integrity';
        t.is(doctor['lockdown']?.state, isOpen ? 'works' : 'missing');
        // Of the programs that are loaded at the start the scheduler's alone (of which one reads masks) ask for what confidentiality refuses.
        for (const source of ['memory', 'block', 'net']) {
          t.is(sources[source], 'running');
          t.is(asSeen(doctor, source), 'works', source);
        }
        t.true(metrics.includes('container.memory.usage'));
        if (isOpen) t.is(sources['sched'], 'running');
        else
          t.regex(sources['sched'] ?? '', /^PROBE_LOAD: \w+\.bpf\.o: .*lockdown=confidentiality/);
        t.is(asSeen(doctor, 'sched'), isOpen ? 'works' : 'missing');
        for (const metric of ['container.cpu.time', 'sculptor.runqueue.latency'])
          t.is(metrics.includes(metric), isOpen, metric);
        t.is(lost['failed_reads'], 0);
      },
    );
