import type { ToldSeries } from '../../support/told-series.ts';
import type { MemoryLab } from '../inside/memory.ts';
import { withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

const mb = 1 << 20;

/** Of both nodes. */
const filePages = (told: ToldSeries) =>
  Object.entries(told)
    .filter(([series]) => /^sculptor\.memory\.pages \d file$/.test(series))
    .reduce((sum, [, bytes]) => sum + bytes / 4096, 0);

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel}, cgroup v2 and two nodes, memory is told as the workloads have it`,
    async t => {
      t.timeout(540_000);
      const lab = await withLab({ kernel, memoryMiB: 2048, deadlineSeconds: 460 }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/memory.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 400 })) as MemoryLab;
      });
      t.log(JSON.stringify(lab));
      const near = (got: number | undefined, wanted: number, ratio: number, what: string) =>
        t.true(
          Math.abs((got ?? 0) - wanted) <= wanted * ratio,
          `${what}: ${got}, wanted ${wanted}`,
        );

      near(lab.minorFaults, lab.walked.minorFaults, 0.02, 'faults by the probe');
      const { node1 } = lab;
      near(node1['container.memory.paging.faults minor'], lab.walked.minorFaults, 0.02, 'faults');
      near(node1['sculptor.memory.pages 1 anon'], 64 * mb, 0.05, 'pages on node 1');
      t.true((node1['sculptor.memory.pages 0 anon'] ?? mb) < mb, 'pages on node 0');
      near(node1['container.memory.usage'], 64 * mb, 0.1, 'usage');
      near(node1['container.memory.working_set'], 64 * mb, 0.1, 'working set');
      t.is(node1['sculptor.memory.dirty'], 0, 'it wrote to no file');
      t.true((node1['sculptor.memory.local'] ?? 1) < 0.1, 'far');
      t.true((lab.local['sculptor.memory.local'] ?? 0) > 0.9, 'near');

      t.is(lab.huge['sculptor.memory.pages 1 hugetlb'], 16 * mb);
      t.is(lab.huge['sculptor.memory.pages 0 hugetlb'], 0);

      const { squeezed } = lab;
      t.true((squeezed['container.memory.usage'] ?? Number.NaN) <= 32 * mb);
      const taken = (squeezed['sculptor.memory.reclaim.reclaimed direct'] ?? 0) * 4096;
      t.true(taken > 20 * mb && taken < 80 * mb, `${taken} bytes reclaimed directly`);
      const scanned = (squeezed['sculptor.memory.reclaim.scanned direct'] ?? 0) * 4096;
      t.true(scanned >= taken && scanned < 100 * taken, `${scanned} bytes looked at for that`);
      t.is(squeezed['sculptor.memory.reclaim.scanned background'], 0, 'the host has enough');
      t.true((squeezed['container.memory.paging.faults major'] ?? 0) > 1000);

      const { reread, rereadSeconds, balanced } = lab;
      const [anon, file] = ['anon', 'file'].map(kind => reread[`sculptor.memory.refaults ${kind}`]);
      t.true((file ?? 0) > 5000, `${file} pages of files read again`);
      t.true((anon ?? 0) < 100, `${anon} anonymous ones, without swap`);
      const stalled =
        (reread['sculptor.pressure.time memory some'] ?? 0) -
        (squeezed['sculptor.pressure.time memory some'] ?? 0);
      // A second for the reading before, whose time is not known so exactly.
      t.true(
        stalled > 0.05 * rereadSeconds && stalled < rereadSeconds + 1,
        `waited for memory for ${stalled} of ${rereadSeconds} s`,
      );
      t.true((node1['sculptor.pressure.time memory some'] ?? 1) < 0.1, 'and nobody else did');
      // One task alone that waits is all of them, and beside one that runs it is not.
      const { rereadHost, beside, besideSeconds } = lab;
      const again = (file ?? 0) - (squeezed['sculptor.memory.refaults file'] ?? 0);
      // The host is asked a moment later, and the reader reads on.
      const all = rereadHost['sculptor.memory.refaults file'] ?? 0;
      t.true(
        all > 0.98 * again && all < 1.25 * again,
        `${all} of the host, ${again} of the reader`,
      );
      t.true((rereadHost['sculptor.memory.refaults anon'] ?? 100) < 100, 'and no anonymous ones');
      const stalledAll =
        (reread['sculptor.pressure.time memory full'] ?? 0) -
        (squeezed['sculptor.pressure.time memory full'] ?? 0);
      t.true(stalledAll > 0.9 * stalled && stalledAll <= stalled + 0.01, `all: ${stalledAll}`);
      const [some = 0, full = 1] = ['some', 'full'].map(
        kind => beside[`sculptor.pressure.time memory ${kind}`],
      );
      t.true(some > 0.5 * besideSeconds && full < 0.1 * some, `${full} of ${some} s beside`);
      // The kernel averages over the CPUs that were not idle.
      const ofHost = rereadHost['sculptor.pressure.time memory some'] ?? 0;
      t.true(ofHost > 0.2 * stalled && ofHost <= rereadSeconds + 0.1, `of the host: ${ofHost} s`);

      // In each round but the first what does not fit comes from the swap, and each page does once at most; so do the interpreter's own.
      const refaults = lab.swapped['sculptor.memory.refaults anon'] ?? 0;
      t.true(
        refaults >= 7 * 4096 && refaults < 7 * 12288 * 1.25,
        `${refaults} of anonymous memory`,
      );
      near(refaults, lab.swappedIn, 0.1, 'pages swapped in');
      const ofAll = lab.swappedHost['sculptor.memory.refaults anon'];
      near(ofAll, refaults, 0.1, 'anonymous memory of the host');

      const { dirty, synced } = lab.written;
      near(dirty['sculptor.memory.dirty'], 32 * mb, 0.05, 'not on the disk');
      const onDisk = 32 * mb - (synced['sculptor.memory.dirty'] ?? 0);
      near(onDisk, 32 * mb, 0.05, 'on the disk');
      for (const told of [dirty, synced]) {
        near(filePages(told) * 4096, 32 * mb, 0.05, 'pages of the file');
        const used = told['container.memory.working_set'] ?? mb;
        t.true(used < 8 * mb, `nobody used it again: ${used}`);
      }

      const { pages, memoryPages, instance, host, byKernel } = lab.walkedFile;
      const reclaimed = (by: string) => instance[`sculptor.memory.reclaim.reclaimed ${by}`] ?? 0;
      const allReclaimed = reclaimed('direct') + reclaimed('background');
      const left = filePages(instance);
      // Each page was read once, and is there or was taken.
      t.true(left < memoryPages && allReclaimed >= pages - memoryPages, `${left} pages left`);
      near(allReclaimed, pages - left, 0.02, 'pages reclaimed');
      const usedAgain = instance['container.memory.working_set'] ?? Number.NaN;
      t.true(usedAgain < 0.05 * left * 4096, `none of them is working set: ${usedAgain}`);
      t.true(reclaimed('background') > 0.8 * allReclaimed, `${reclaimed('background')} by kswapd`);
      for (const [series, byVmstat] of Object.entries(byKernel)) {
        near(host[series], byVmstat, 0.02, `${series} of the host`);
        const ofInstance = instance[series] ?? 0;
        t.true(ofInstance <= byVmstat && ofInstance > 0.7 * byVmstat, `${series}: ${ofInstance}`);
      }

      const numa = (told: Readonly<Record<string, number>>, what: string) =>
        told[`sculptor.memory.numa.${what}`];
      t.true((numa(balanced.host, 'migrations') ?? 0) > 2000, 'pages follow who touches them');
      t.true((numa(balanced.host, 'hint_faults') ?? 0) > 10, 'after faults that ask for it');
      if (kernel !== '6.1') {
        t.true((numa(balanced.instance, 'migrations') ?? 0) > 2000, 'of the instance');
        const faults = numa(balanced.instance, 'hint_faults') ?? 0;
        const least = 0.8 * (numa(balanced.instance, 'migrations') ?? 0);
        const most = numa(balanced.host, 'hint_faults') ?? 0;
        t.true(faults > least && faults <= most, `${faults} of the instance, ${most} of the host`);
        t.is(numa(node1, 'hint_faults'), 0, 'and of no other');
        t.is(numa(node1, 'migrations'), 0, 'and of no other');
      }

      // One of the two always waits for the other.
      near(lab.spun['sculptor.pressure.time cpu some'], lab.spunSeconds, 0.25, 'CPU pressure');
      t.true((lab.spun['sculptor.pressure.time cpu full'] ?? 1) < 0.1);

      const byCgroup = kernel !== '6.1';
      t.is('sculptor.memory.numa.hint_faults' in node1, byCgroup, 'NUMA balancing by cgroup');
      t.true('sculptor.memory.numa.hint_faults' in lab.host);
      t.true((lab.host['system.paging.faults minor'] ?? 0) > lab.walked.minorFaults);

      const [online, notFollowed, followed] = lab.hotPlug;
      t.true((online ?? 0) >= 4096 && (followed ?? 0) >= 4096, `${lab.hotPlug}`);
      t.true((notFollowed ?? 4096) < 2000, `${lab.hotPlug}`);
    },
  );
}
