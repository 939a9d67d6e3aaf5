import { buildGuest } from '../guest/guest.ts';
import type { AccessLab, Memory } from '../inside/access.ts';
import { withLab } from '../lab.ts';
import { needsLab } from '../needs-lab.ts';

const mib = 1 << 20;

needsLab('6.12')(
  "on Debian's 6.12 DAMON tells what a process, a cgroup and a guest under KVM use of their memory, and nothing of it is left",
  async t => {
    t.timeout(500_000);
    const folder = `/${buildGuest('6.12').split('/').at(-1)}`;
    const lab = await withLab({ kernel: '6.12', deadlineSeconds: 480 }, async lab => {
      const script = `cd /checkout && node test/lab/inside/access.ts ${folder}`;
      return JSON.parse(await lab.run(script, { timeoutSeconds: 450 })) as AccessLab;
    });
    t.log(JSON.stringify(lab));

    const { usedBytes, residentBytes, mapped } = lab.toucher;
    t.true(residentBytes > 256 * mib);
    t.true(mapped.bytes > residentBytes && mapped.bytes < 1024 * mib);
    for (const [of, [iterator = 0, proc = 0]] of Object.entries(lab.mapped)) {
      t.true(iterator > 200 * mib, `${of}: ${iterator}`);
      t.true(Math.abs(proc - iterator) <= mib, `${of}: ${proc} by /proc, ${iterator}`);
    }
    for (const used of usedBytes) t.true(used > 48 * mib && used < 112 * mib, `${used / mib} MiB`);

    t.deepEqual(lab.refused, {
      held: 'KERNEL_BUSY',
      foreign: 'KERNEL_BUSY',
      reclaim: 'KERNEL_BUSY',
    });
    t.is(lab.afterKill, 'taken');
    t.deepEqual(lab.by, { root: 'taken', capable: 'taken', nobody: 'KERNEL_PRIVILEGE' });

    const { busy, still, cgroup } = lab;
    const whole = ({ referenced, idle }: Memory): number => referenced + idle;
    for (const one of [busy, still, cgroup])
      t.true(Math.abs(whole(one) / one.residentBytes - 1) < 0.1, 'each page is used or idle');
    // Both have the 64 MB in memory; who uses them only second-level page tables tell.
    t.true(busy.referenced > 48 * mib && busy.referenced < 140 * mib);
    t.true(still.referenced < 32 * mib);
    t.true(busy.referenced > still.referenced + 32 * mib);
    t.true(still.idle > 96 * mib);
    t.true(busy.byHostTables < 32 * mib);

    t.true(cgroup.referenced > 48 * mib && cgroup.referenced < 112 * mib);
    t.true(cgroup.idle > 144 * mib);

    const { before, staged, after } = lab.unknown;
    const grown = Object.entries(staged).filter(([reason, count]) => count !== before[reason]);
    t.deepEqual(
      Object.fromEntries(grown.map(([reason, count]) => [reason, count - (before[reason] ?? 0)])),
      { too_small: 1, spread: 1, too_sparse: 1 },
    );
    t.deepEqual(after, before, 'nor are they counted when they are gone');

    t.is(lab.source, 'running');
    t.deepEqual(lab.left, { kdamonds: '0', threads: 0 });
  },
);

needsLab('6.1')("on Debian's 6.1, which has no DAMON, its source is refused in words", async t => {
  t.timeout(200_000);
  await withLab({ kernel: '6.1', deadlineSeconds: 180 }, async lab => {
    const script = `import { takeDamon } from './src/linux/damon.ts';
import { hostRoots } from './src/linux/roots.ts';
try { takeDamon(hostRoots, { kdamonds: 1, windowSeconds: 1, parts: 10 }); }
catch (error) { console.log(error.code, error.message); }`;
    await lab.write('/tmp/refused.mts', script.replaceAll("'./", "'/checkout/"));
    t.regex(await lab.run('node /tmp/refused.mts'), /^KERNEL_MISSING .*CONFIG_DAMON_SYSFS/);
  });
});
