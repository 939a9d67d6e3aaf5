import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import type { Check } from '../../src/cli/doctor/check.ts';
import { readNumber } from '../../src/linux/read-file.ts';
import { beside, needs } from '../support/needs.ts';

const test = beside(needs('root', 'btf', 'addon'));
const otherUserTest = beside(needs('root', 'btf', 'addon', 'nodeAndCheckoutThatOthersMayRun'));
const main = new URL('../../src/cli/main.ts', import.meta.url).pathname;
const uid = 64_904;

/** What doctor of this configuration says, by the name of each check. */
async function doctor(
  t: ExecutionContext,
  agent: object,
  { mode = 0o644, by = ['env'] } = {},
): Promise<Map<string, Check>> {
  const run = mkdtempSync(`${tmpdir()}/sculptor-doctor-`);
  t.teardown(() => rmSync(run, { recursive: true }));
  chmodSync(run, 0o755);
  const config = `${run}/sculpt.yaml`;
  writeFileSync(config, JSON.stringify({ agent }), { mode });
  const [file = '', ...args] = [
    ...by,
    process.execPath,
    main,
    'doctor',
    '--json',
    '--config',
    config,
  ];
  const { stdout, stderr } = await execa(file, args, { reject: false });
  t.is(stderr, '');
  const { checks } = JSON.parse(stdout) as { checks: Check[] };
  return new Map(checks.map(check => [check.name, check]));
}

/** Whether somebody has DAMON, as far as it shows. */
function kdamonds(): number | null {
  return readNumber('/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds');
}

test('sources are tried with what the agent of the configuration keeps, and those that are not selected are not', async t => {
  t.timeout(120_000);
  const before = kdamonds();
  const [own, other] = await Promise.all([
    doctor(t, {}),
    doctor(t, {
      profile: 'full',
      user: uid,
      metrics: { exclude: ['container.network.io', 'sculptor.network.interface.*'] },
    }),
  ]);
  t.is(kdamonds(), before);
  t.regex(own.get('sculpt agent')?.found ?? '', /^as user 0, with CAP_BPF, CAP_PERFMON, CAP_SYS_/);
  t.like(own.get('source block'), { state: 'works', found: 'was started and stopped' });
  t.like(own.get('source access'), { state: 'unknown' });
  t.regex(own.get('source udp')?.found ?? '', /^not selected/);

  t.regex(
    other.get('sculpt agent')?.found ?? '',
    new RegExp(`^as user ${uid}, with CAP_BPF, CAP_DAC_OVERRIDE, CAP_PERFMON and no more`),
  );
  t.regex(other.get('source taps')?.found ?? '', /^not selected/);
  t.not(other.get('source access')?.found, 'was started and stopped', 'it is looked at only');
});

otherUserTest('an agent that could not start as its user is not said to work', async t => {
  t.timeout(120_000);
  const checks = await doctor(t, { user: uid }, { mode: 0o600 });
  t.is(checks.get('sculpt agent')?.state, 'missing');
  t.regex(
    checks.get('sculpt agent')?.found ?? '',
    /it does not start: .*sculpt\.yaml: this user may not read it/,
  );
  t.false(checks.has('source block'));
});

otherUserTest(
  'who may not load a program is told that the agent starts without the scheduler',
  async t => {
    t.timeout(120_000);
    const by = ['setpriv', '--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups'];
    const checks = await doctor(t, {}, { by });
    t.is(checks.get('sculpt agent')?.state, 'works');
    t.like(checks.get('source sched'), {
      state: 'missing',
      how: 'run as root, or give the service CAP_BPF, CAP_PERFMON',
    });
    t.like(checks.get('source taps'), {
      state: 'missing',
      how: 'run as root, or give the service CAP_SYS_PTRACE',
    });
    t.is(checks.get('source memory')?.state, 'works');
  },
);
