import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import ava from 'ava';
import type { MetricPoint } from '../../src/contract/telemetry.ts';
import { type Capability, setOf } from '../../src/linux/capabilities.ts';
import { beside, has, needs } from '../support/needs.ts';
import { type PrivilegeScene, stagePrivilegeScene } from '../support/privilege-scene.ts';
import { startReceiver } from '../support/receiver.ts';
import { endChild, eventually } from '../support/scene.ts';
import { readUnit } from '../support/unit.ts';

const test = beside(
  needs(
    ...(['root', 'btf', 'addon', 'namespaces', 'loopDevice'] as const),
    'nodeAndCheckoutThatOthersMayRun',
  ),
);

let staged: Promise<PrivilegeScene> | null = null;
ava.after.always(async () => (await staged)?.end());

const main = new URL('../../src/cli/main.ts', import.meta.url).pathname;
const base: Capability[] = ['CAP_BPF', 'CAP_PERFMON'];
/** Of the interfaces of VMs, which alone take CAP_SYS_PTRACE. */
const taps = ['container.network.io', 'sculptor.network.interface.*'];

type Place = {
  readonly run: string;
  readonly config: string;
  pointsOf: (metric: string) => MetricPoint[];
  end: () => Promise<void>;
};

/** A receiver that everybody may tell, and the configuration of an agent that tells it. */
async function makePlace(uid: number, exclude: readonly string[]): Promise<Place> {
  const run = mkdtempSync(`${tmpdir()}/sculptor-privileges-`);
  chmodSync(run, 0o777);
  const receiver = await startReceiver(`${run}/otlp.sock`, [uid, uid + 5]);
  chmodSync(`${run}/otlp.sock`, 0o666);
  const agent = {
    endpoint: `unix://${run}/otlp.sock`,
    apiSocket: `${run}/api.sock`,
    detailIntervalSeconds: 1,
    placementIntervalSeconds: 1,
    metrics: { exclude },
  };
  writeFileSync(`${run}/sculpt.yaml`, JSON.stringify({ agent }));
  return {
    run,
    config: `${run}/sculpt.yaml`,
    pointsOf: metric =>
      receiver.resources.flatMap(({ points }) => points.filter(point => point.metric === metric)),
    end: async () => {
      await receiver.stop();
      rmSync(run, { recursive: true });
    },
  };
}

type Started = { readonly child: ChildProcess; readonly said: () => string };

/** A process and all that it says. */
function start(command: string, args: readonly string[]): Started {
  let text = '';
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  child.stderr?.on('data', chunk => {
    text += String(chunk);
  });
  return { child, said: () => text };
}

/** As a user of its own with these in every set, from the first instant. */
function asOwnUser(
  uid: number,
  capabilities: readonly string[],
  args: readonly string[],
): string[] {
  const list = ['-all', ...capabilities.map(name => `+${name.slice(4).toLowerCase()}`)].join();
  return [
    ...['--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups', '--bounding-set', list],
    ...['--inh-caps', list, '--ambient-caps', list, process.execPath, main, ...args],
  ];
}

/** What /proc says of every thread: one entry for each that differs. */
function threadsOf(pid: number): Record<string, string>[] {
  const folder = `/proc/${pid}/task`;
  const kinds = readdirSync(folder).map(tid =>
    readFileSync(`${folder}/${tid}/status`, 'utf8')
      .split('\n')
      .filter(line => /^(Uid|Gid|Groups|Cap\w+|NoNewPrivs):/.test(line))
      .join('\n'),
  );
  return [...new Set(kinds)].map(kind =>
    Object.fromEntries(
      kind.split('\n').map(line => {
        const [key = '', value = ''] = line.split(/:\s*/);
        return [key, value.trim().replaceAll('\t', ' ')];
      }),
    ),
  );
}

const hex = (capabilities: readonly Capability[]): string =>
  setOf(capabilities).toString(16).padStart(16, '0');

function setsOf(capabilities: readonly Capability[]): Record<string, string> {
  const set = hex(capabilities);
  return { CapInh: set, CapPrm: set, CapEff: set, CapBnd: set, CapAmb: set, NoNewPrivs: '1' };
}

/** The scene of all tests of this file, and a place of the test's own. */
async function withScene(
  exclude: readonly string[],
  use: (scene: PrivilegeScene, place: Place) => Promise<void>,
): Promise<void> {
  staged ??= stagePrivilegeScene();
  const scene = await staged;
  const place = await makePlace(scene.uid, exclude);
  try {
    await use(scene, place);
  } finally {
    await place.end();
  }
}

/** Waits for what each kind of source has to tell. */
async function untilTold({ pointsOf }: Place, metrics: readonly string[]): Promise<void> {
  for (const metric of metrics) await eventually(metric, 30, () => pointsOf(metric)[0]);
}

/** Of each source that reads the kernel through BPF or files of cgroups. */
const told = [
  'container.cpu.time',
  'sculptor.runqueue.latency',
  'sculptor.memory.fault.latency',
  'container.memory.usage',
  'sculptor.disk.latency',
  ...(has('socketsOfFiles') ? ['sculptor.network.rtt'] : []),
  'sculptor.agent.bpf.memory',
];

/** Whether a source is told as available, and else why not. */
function availability({ pointsOf }: Place, source: string): unknown {
  const of = pointsOf('sculptor.agent.source.available').findLast(
    ({ attributes }) => attributes['sculptor.agent.source'] === source,
  );
  return of && [of.value, of.attributes['sculptor.reason']];
}

test('sculpt agent --user becomes that user in every thread, keeps what its sources need, and tells all', async t => {
  t.timeout(90_000);
  await withScene([], async ({ uid }, place) => {
    const args = [main, 'agent', '--config', place.config, '--user', `${uid}`];
    const { child, said } = start(process.execPath, args);
    try {
      await untilTold(place, [...told, 'sculptor.network.interface.packets']);
      const ids = `${uid} ${uid} ${uid} ${uid}`;
      t.deepEqual(threadsOf(child.pid ?? 0), [
        { Uid: ids, Gid: ids, Groups: `${uid}`, ...setsOf([...base, 'CAP_SYS_PTRACE']) },
      ]);
      t.regex(said(), /with CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and no more/);
    } finally {
      await endChild(child);
    }
  });
});

test('root that becomes nobody else gives up its capabilities all the same', async t => {
  t.timeout(90_000);
  await withScene(taps, async (_, place) => {
    const { child } = start(process.execPath, [main, 'agent', '--config', place.config]);
    try {
      await untilTold(place, told);
      const ids = '0 0 0 0';
      const [all, ...others] = threadsOf(child.pid ?? 0);
      t.like(all, { Uid: ids, Gid: ids, ...setsOf(base) });
      t.deepEqual(others, []);
    } finally {
      await endChild(child);
    }
  });
});

test('a user of its own with the base alone starts, counts and exports; what it has beyond is given up, and taps are refused in words', async t => {
  t.timeout(90_000);
  await withScene([], async ({ uid }, place) => {
    const given: Capability[] = [...base, 'CAP_DAC_READ_SEARCH'];
    const { child, said } = start(
      'setpriv',
      asOwnUser(uid, given, ['agent', '--config', place.config]),
    );
    try {
      await untilTold(place, [...told, 'sculptor.agent.source.available']);
      const [{ CapPrm, CapEff, CapAmb, NoNewPrivs } = {}, ...others] = threadsOf(child.pid ?? 0);
      const set = hex(existsSync('/etc/machine-id') ? base : given);
      t.deepEqual({ CapPrm, CapEff, CapAmb }, { CapPrm: set, CapEff: set, CapAmb: set });
      t.is(NoNewPrivs, '1');
      t.deepEqual(others, []);
      t.regex(
        said(),
        /without the source "taps".*this process has no CAP_SYS_PTRACE, which it needs/,
      );
      t.deepEqual(availability(place, 'taps'), [0, 'KERNEL_PRIVILEGE']);
      t.deepEqual(availability(place, 'block'), [1, undefined]);
    } finally {
      await endChild(child);
    }
  });
});

test('as its systemd unit starts it the agent tells all, and of what the unit grants keeps what its sources need', async t => {
  t.timeout(90_000);
  const [granted = ''] = readUnit('sculpt-agent.service')('AmbientCapabilities');
  await withScene([], async ({ uid }, place) => {
    const args = ['agent', '--config', place.config];
    const { child } = start('setpriv', [
      '--no-new-privs',
      ...asOwnUser(uid, granted.split(' '), args),
    ]);
    try {
      await untilTold(place, [...told, 'sculptor.network.interface.packets']);
      const [{ CapPrm, CapEff, CapAmb } = {}, ...others] = threadsOf(child.pid ?? 0);
      const set = hex([
        ...base,
        'CAP_SYS_PTRACE',
        ...(existsSync('/etc/machine-id') ? [] : (['CAP_DAC_READ_SEARCH'] as const)),
      ]);
      t.deepEqual({ CapPrm, CapEff, CapAmb }, { CapPrm: set, CapEff: set, CapAmb: set });
      t.deepEqual(others, []);
    } finally {
      await endChild(child);
    }
  });
});

for (const absent of base)
  test(`without ${absent} the scheduler is told as not there, and all that needs no BPF is told`, async t => {
    t.timeout(90_000);
    await withScene([], async ({ uid }, place) => {
      const held = base.filter(name => name !== absent);
      const args = ['agent', '--config', place.config];
      const { child, said } = start('setpriv', asOwnUser(uid, held, args));
      try {
        await untilTold(place, ['container.memory.usage', 'container.memory.paging.faults']);
        await eventually('sched', 30, () => availability(place, 'sched'));
        t.deepEqual(availability(place, 'sched'), [0, 'KERNEL_PRIVILEGE']);
        t.deepEqual(availability(place, 'block'), [0, 'KERNEL_PRIVILEGE']);
        t.deepEqual(availability(place, 'memory'), [1, undefined]);
        t.regex(
          said(),
          new RegExp(
            `without the source "sched" .*KERNEL_PRIVILEGE: this process has no ${absent},`,
          ),
        );
        for (const metric of ['container.cpu.time', 'sculptor.runqueue.wait'])
          t.deepEqual(place.pointsOf(metric), [], metric);
        t.is(child.exitCode, null);
      } finally {
        await endChild(child);
      }
    });
  });

test("a VM's drives are told to who is of its monitor's group, and else the monitor is said not to answer", async t => {
  t.timeout(90_000);
  await withScene(taps, async ({ uid, qmpGroup }, place) => {
    const databases = `${place.run}/databases`;
    mkdirSync(databases);
    const passwd = `root:x:0:0::/:/bin/sh\nsculptest:x:${uid}:${uid}::/:/bin/false\n`;
    const group = `root:x:0:\nsculptest:x:${uid}:\nguests:x:${qmpGroup}:sculptest\n`;
    writeFileSync(`${databases}/passwd`, passwd);
    writeFileSync(`${databases}/group`, group);
    // A user that this machine does not have, in a mount namespace which ends with the agent.
    const script = `mount --bind ${databases}/passwd /etc/passwd && mount --bind ${databases}/group /etc/group && exec "$@"`;
    const agent = [process.execPath, main, 'agent', '--config', place.config, '--user'];
    const member = start('unshare', ['--mount', 'sh', '-c', script, 'sh', ...agent, 'sculptest']);
    try {
      const io = await eventually('its drives', 30, () => place.pointsOf('sculptor.vdisk.io')[0]);
      t.is(io.attributes['system.device'], 'drive0');
      t.like(threadsOf(member.child.pid ?? 0)[0], {
        Groups: `${uid} ${qmpGroup}`,
        ...setsOf(base),
      });
    } finally {
      await endChild(member.child);
    }
    // A socket of another user is not replaced.
    rmSync(`${place.run}/api.sock`);
    const stranger = start(process.execPath, [...agent.slice(1), `${uid + 5}`]);
    try {
      await eventually('that its monitor does not answer', 30, () =>
        place
          .pointsOf('sculptor.agent.vdisks.unknown')
          .find(
            ({ attributes, value }) =>
              attributes['sculptor.reason'] === 'qmp_silent' && value === 1,
          ),
      );
      t.pass();
    } finally {
      await endChild(stranger.child);
    }
  });
});
