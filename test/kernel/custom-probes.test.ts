import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { getPriority, tmpdir } from 'node:os';
import type { ExecutionContext } from 'ava';
import { runBpftrace } from '../../src/agent/bpftrace/run.ts';
import { type CustomSource, startCustomSource } from '../../src/agent/custom/custom-source.ts';
import type { LivingInstance } from '../../src/agent/instances/instances.ts';
import { realClock } from '../../src/cli/clock.ts';
import { customProbesSchema } from '../../src/contract/custom-probes-config.ts';
import type { Clock } from '../../src/contract/ports.ts';
import { instanceAt } from '../../src/linux/instance-at.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { makeCgroupBox } from '../support/cgroup-box.ts';
import { beside, needs } from '../support/needs.ts';
import { quickClock } from '../support/quick-clock.ts';
import { childrenOf, eventually, stageScene } from '../support/scene.ts';
import { startTold } from '../support/told-agent.ts';

const alone = needs('root', 'btf', 'bpftrace', 'tracefs');
const kernelTest = beside(alone);
const v1Test = beside(needs('root', 'btf', 'bpftrace', 'tracefs', 'cgroupV1Cpu'));

/** The probes of a folder of the test's own. */
function stage(t: ExecutionContext) {
  const folder = mkdtempSync(`${tmpdir()}/sculptor-probes-`);
  const said: string[] = [];
  let source: CustomSource | null = null;
  t.teardown(async () => {
    await source?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  /** What bpftrace prints is read four times as soon as by the real time while it hurries. */
  const setting = { printInterval: 0.5, hurry: false };
  const readingClock: Clock = {
    ...realClock,
    every: (seconds, run) => {
      let quarters = 0;
      return realClock.every(seconds / 4, () => {
        quarters += 1;
        if (setting.hurry || quarters % 4 === 0) run();
      });
    },
  };
  const status = () => source?.status() ?? {};
  return {
    ...{ folder, said, setting, status },
    /** Runs the probes of the folder, which print every half second. */
    begin: (settings: object = {}): void => {
      source = startCustomSource({
        config: { ...customProbesSchema.parse(settings), directory: folder },
        printIntervalSeconds: () => setting.printInterval,
        run: options => runBpftrace({ ...options, clock: readingClock }),
        roots: hostRoots,
        clock: quickClock,
        say: (_level, message) => said.push(message),
      });
    },
    write: (file: string, script: string): void => writeFileSync(`${folder}/${file}`, script),
    runs: (file: string) =>
      eventually(`${file} runs`, 15, () => (status()[file] === 'running' ? true : null)),
    read: (living: readonly LivingInstance[]) => source?.read(living),
    samples: (living: LivingInstance) => source?.samples(living) ?? [],
    host: (name: string) => told(source?.host() ?? [], name),
  };
}

const counter = (name: string, labels = '') =>
  `// sculptor: name: ${name}, unit: "1", type: counter, labels: [${labels}]\n`;

/** Values of one metric by the values of their attributes. */
function told(samples: ReturnType<CustomSource['host']>, name: string): Record<string, unknown> {
  return Object.fromEntries(
    samples
      .filter(({ metric }) => (typeof metric === 'string' ? metric : metric.name) === name)
      .map(({ attributes, value }) => [Object.values(attributes ?? {}).join(' '), value]),
  );
}

function instanceOf(id: number, path: string): LivingInstance {
  return {
    instance: instanceAt(path),
    path,
    members: new Map([[id, path]]),
    start: Date.now() / 1000,
    totals: { runNs: 0, waitNs: 0, throttledNs: 0 },
    window: { usedCores: 0, waitCores: 0, throttledCores: 0 },
  };
}

v1Test(
  'the example of the documentation: 20 programs started in a cgroup are 20 of its instance',
  async t => {
    const { begin, folder, host, read, runs, samples, status, write } = stage(t);
    const page = readFileSync(new URL('../../docs/custom-probes.md', import.meta.url), 'utf8');
    const example = /```c\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
    const box = makeCgroupBox('/sys/fs/cgroup/cpu');
    try {
      const living = instanceOf(box.id, '/a');
      begin();
      read([living]);
      write('execs.bt', example);
      await runs('execs.bt');
      box.spawn('sh', '-c', 'for i in $(seq 20); do /bin/true; done; sleep 60');
      const found = await eventually('20 are told', 5, () => {
        const execs = told(samples(living), 'my.process.execs');
        return execs['true'] === 20 ? execs : null;
      });
      t.is(found['sleep'], 1);
      t.deepEqual(host('my.process.execs'), {});
      rmSync(`${folder}/execs.bt`);
      await eventually('it is stopped', 5, () =>
        Object.keys(status()).length === 0 ? true : null,
      );
      t.deepEqual(samples(living), []);
    } finally {
      await box.end();
    }
  },
);

v1Test('an agent exports them as OTLP, on the instance’s resource and on the host’s', async t => {
  t.timeout(60_000);
  const { folder, write } = stage(t);
  write(
    'mine.bt',
    `// sculptor: name: my.turns, unit: "{turn}", type: counter, labels: [cgroup], map: turns, headline: true
// sculptor: name: my.priority, unit: "1", type: histogram, map: priority, description: of all
tracepoint:sched:sched_switch {
  $group = (struct kernfs_node *)curtask->sched_task_group->css.cgroup->kn;
  @turns[$group->id] = count();
  @priority = lhist(args->prev_prio, 0, 140, 20);
}`,
  );
  const customProbes = customProbesSchema.parse({ directory: folder });
  const told = await startTold({ customProbes, detailIntervalSeconds: 4 });
  const scene = stageScene('sculptor-custom');
  const id = scene.id('one');
  try {
    scene.spawn('one', 'latency', '--period-us', '1000', '--burn-us', '10');
    const points = await eventually('two exports of the instance’s details', 30, () => {
      const details = told.pointsOf('sculptor.cpu.wakeups', id);
      return details.length >= 2 ? told.pointsOf('my.turns', id) : null;
    });
    const steps = points.slice(1).map(({ time }, i) => time - (points[i]?.time ?? 0));
    // A headline series: every second.
    t.true(steps.length >= 3 && steps.every(step => step < 1.9), steps.join());
    const values = points.map(({ value }) => Number(value));
    t.true(
      values.every((value, i) => i === 0 || value >= (values[i - 1] ?? 0)),
      values.join(),
    );
    t.true(new Set(values).size >= 3, values.join());
    t.like(points[0], { unit: '{turn}', type: 'sum', monotonic: true, temporality: 'cumulative' });
    t.deepEqual(points[0]?.attributes, {});
    const [first, last] = [points[0], points.at(-1)];
    const perSecond =
      (Number(last?.value) - Number(first?.value)) / ((last?.time ?? 0) - (first?.time ?? 0));
    t.true(perSecond > 400 && perSecond < 2500, `${perSecond} turns each second`);
    const value = told.pointsOf('my.priority', 'test-host').at(-1)?.value;
    t.like(value, { kind: 'explicit', bounds: [-1, 19, 39, 59, 79, 99, 119, 139] });
    t.is(told.agent.status().customProbes['mine.bt'], 'running');
  } finally {
    await scene.end();
    await told.stop();
  }
});

kernelTest('a broken script: bpftrace’s own words with file and line; mended, it runs', async t => {
  const { begin, host, runs, said, status, write } = stage(t);
  begin();
  write('a.bt', `${counter('my.ticks')}interval:ms:100 { @ = count() }}`);
  const text = await eventually('it is said', 10, () => {
    const now = status()['a.bt'] ?? '';
    return /ERROR/.test(now) ? now : null;
  });
  t.regex(text, /^a\.bt:2:\d+-\d+: ERROR: syntax error/);
  t.true(said.some(line => line.includes(text)));
  t.deepEqual(host('sculptor.agent.probe.available'), { 'a.bt BPFTRACE_FAILED': 0 });
  write('a.bt', `${counter('my.ticks')}interval:ms:100 { @ = count(); }`);
  await runs('a.bt');
  t.deepEqual(host('sculptor.agent.probe.available'), { 'a.bt': 1 });
  await eventually('it counts', 5, () => (Number(host('my.ticks')['']) > 2 ? true : null));
});

alone('a script that floods is held up, and counted; nothing else is hurt', async t => {
  const { begin, host, runs, write } = stage(t);
  begin({ maxBytesPerSecond: 262_144 });
  write('calm.bt', `${counter('my.calm')}interval:ms:100 { @ = count(); }`);
  write(
    'flood.bt',
    `${counter('my.flood')}interval:us:100 { printf("%s %d ${'x'.repeat(60)}\\n", comm, nsecs); @ = count(); }`,
  );
  await runs('flood.bt');
  const lost = await eventually('it is held up', 10, () => {
    const now = host('sculptor.agent.probe.lost');
    return Number(now['flood.bt flooded_seconds']) >= 2 ? now : null;
  });
  // A line of it is about 120 bytes as JSON, and 10,000 come in a second.
  const lines = Number(lost['flood.bt text_lines']);
  const seconds = Number(lost['flood.bt flooded_seconds']);
  t.true(lines < (seconds + 2) * 4000, `${lines} lines in ${seconds} seconds that were full`);
  const before = Number(host('my.calm')['']);
  await eventually('the other goes on', 5, () =>
    Number(host('my.calm')['']) > before ? true : null,
  );
});

kernelTest('a script that exits is begun again after a pause, and its counter goes on', async t => {
  const { begin, host, said, write } = stage(t);
  begin();
  write('a.bt', `${counter('my.lives')}BEGIN { @ = count(); exit(); }`);
  await eventually('three lives', 15, () => (host('my.lives')[''] === 3 ? true : null));
  t.true(Number(host('sculptor.agent.probe.restarts')['a.bt']) >= 2);
  t.is(said.filter(line => line.includes('ended')).length, 1);
});

alone('a bpftrace that hangs is ended and begun again, which is said', async t => {
  t.timeout(60_000);
  const { begin, host, runs, said, setting, write } = stage(t);
  begin();
  write('a.bt', `${counter('my.ticks')}interval:ms:100 { @ = count(); }`);
  await runs('a.bt');
  const [pid, ...others] = childrenOf(process.pid);
  t.deepEqual(others, []);
  process.kill(Number(pid), 'SIGSTOP');
  setting.hurry = true;
  await eventually('it is said', 30, () =>
    said.find(line => /a\.bt ended, and is begun again: it printed nothing for 10 s/.test(line)),
  );
  setting.hurry = false;
  const before = Number(host('my.ticks')['']);
  await eventually('it counts again', 15, () =>
    Number(host('my.ticks')['']) > before ? true : null,
  );
  t.is(host('sculptor.agent.probe.restarts')['a.bt'], 1);
});

kernelTest(
  'when the print interval changes a script prints by it, and its counter goes on',
  async t => {
    const { begin, host, runs, setting, write } = stage(t);
    setting.printInterval = 600;
    begin();
    write('a.bt', `${counter('my.ticks')}interval:ms:100 { @ = count(); }`);
    await runs('a.bt');
    t.deepEqual(host('my.ticks'), {});
    const ticks = (least: number) => () => (Number(host('my.ticks')['']) >= least ? true : null);
    setting.printInterval = 0.5;
    await eventually('it prints', 15, ticks(20));
    const before = Number(host('my.ticks')['']);
    setting.printInterval = 0.25;
    await eventually('it goes on', 15, ticks(before + 10));
    t.is(host('sculptor.agent.probe.restarts')['a.bt'], 0);
  },
);

kernelTest(
  'keys with commas, quotes, newlines and colons are told right, or refused and counted',
  async t => {
    const { begin, host, write } = stage(t);
    begin();
    write(
      'two.bt',
      `${counter('my.two', 'a, b')}BEGIN { @["x,y", "z"] = count(); @["\\"q", "n\\n:"] = count(); }`,
    );
    write('one.bt', `${counter('my.one', 'a')}BEGIN { @["x,y:\\"\\n"] = count(); }`);
    await eventually('both are told', 10, () =>
      host('my.two')['"q n\n:'] === 1 && host('my.one')['x,y:"\n'] === 1 ? true : null,
    );
    t.deepEqual(Object.keys(host('my.two')), ['"q n\n:']);
    t.is(host('sculptor.agent.probe.lost')['two.bt ambiguous_key'], 1);
  },
);

kernelTest('too many keys: a full map and series past their number are counted', async t => {
  const { begin, host, write } = stage(t);
  begin({ maxKeys: 16, maxSeries: 10 });
  write('a.bt', `${counter('my.keys', 'a')}interval:ms:20 { @[nsecs] = count(); }`);
  const lost = await eventually('both are full', 10, () => {
    const now = host('sculptor.agent.probe.lost');
    return Number(now['a.bt map_full']) > 5 && Number(now['a.bt series_full']) > 0 ? now : null;
  });
  t.is(lost['a.bt series_full'], 6);
  t.is(Object.keys(host('my.keys')).length, 10);
});

kernelTest(
  'refused: a metric of this product, one of another script, system(), and a file that others may write',
  async t => {
    const { begin, folder, runs, status, write } = stage(t);
    begin();
    write('a.bt', `${counter('my.a')}BEGIN { @ = 1; }`);
    await runs('a.bt');
    write('b.bt', `\n${counter('my.a')}BEGIN { @ = 1; }`);
    write('ours.bt', `${counter('container.cpu.time')}BEGIN { @ = 1; }`);
    write('system.bt', `${counter('my.s')}BEGIN { @ = 1; system("id"); }`);
    write('open.bt', `${counter('my.o')}BEGIN { @ = 1; }`);
    chmodSync(`${folder}/open.bt`, 0o666);
    const texts = await eventually('all are said', 10, () => {
      const now = status();
      return /unsafe/.test(now['system.bt'] ?? '') ? now : null;
    });
    t.regex(texts['b.bt'] ?? '', /b\.bt:2: got name "my\.a", wanted one other than those of a\.bt/);
    t.regex(texts['ours.bt'] ?? '', /ours\.bt:1: name: got "container\.cpu\.time", wanted/);
    t.regex(
      texts['system.bt'] ?? '',
      /system\.bt:2:\d+-\d+: ERROR: system\(\) is an unsafe function/,
    );
    t.regex(texts['open.bt'] ?? '', /mode 666; wanted/);
  },
);

kernelTest(
  'bpftrace runs above nobody, and ends with the agent, also when that is killed',
  async t => {
    const { write } = stage(t);
    write('a.bt', `${counter('my.a')}interval:ms:100 { @ = count(); }`);
    const program = `
    import { setPriority } from 'node:os';
    import { runBpftrace } from './src/agent/bpftrace/run.ts';
    import { realClock } from './src/cli/clock.ts';
    setPriority(-10);
    runBpftrace({
      program: 'interval:s:1 { printf(""); @ = count(); }', file: 'a.bt', maxBytesPerSecond: 1e6, maxKeys: 16,
      roots: { proc: '/proc', sys: '/sys', cgroup: '/sys/fs/cgroup' }, clock: realClock,
      record: () => {}, ended: () => {}, attached: () => console.log('attached'),
    });`;
    const agent = spawn(process.execPath, ['--input-type=module-typescript', '-e', program], {
      cwd: new URL('../../', import.meta.url).pathname,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.teardown(() => agent.kill('SIGKILL'));
    await new Promise(resolve => agent.stdout.once('data', resolve));
    const children = readFileSync(`/proc/${agent.pid}/task/${agent.pid}/children`, 'utf8');
    const [bpftrace] = children.trim().split(' ');
    t.is(readFileSync(`/proc/${bpftrace}/comm`, 'utf8'), 'bpftrace\n');
    t.is(getPriority(agent.pid), -10);
    t.is(getPriority(Number(bpftrace)), 0);
    agent.kill('SIGKILL');
    await eventually('it is gone', 15, () => {
      try {
        return readFileSync(`/proc/${bpftrace}/comm`, 'utf8') === 'bpftrace\n' ? null : true;
      } catch {
        return true;
      }
    });
    t.pass();
  },
);
