/**
 * The agent beside workloads that are not ours: stress-ng and fio, each in a cgroup of its own, on the kernel it is started on; prints
 * one JSON object (`WorkloadsLab`): what the kernel said to `time` or fio of itself, and what the agent told. It asserts nothing: the
 * test outside does.
 */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CgroupBox, makeCgroupBox } from '../../support/cgroup-box.ts';
import { loadScsiDisk } from '../../support/scsi-disk.ts';
import { startTold } from '../../support/told-agent.ts';

/** What wait4() says of a command and all that it waited for; seconds, and how often. */
export type Usage = {
  readonly elapsed: number;
  readonly user: number;
  readonly system: number;
  readonly minorFaults: number;
  readonly majorFaults: number;
  readonly voluntary: number;
  readonly involuntary: number;
};

/** The newest of each series of the cgroup, by metric and the values of its attributes; of histograms count and sum. */
export type Newest = Readonly<Record<string, number>>;

/** Operations of fio in one direction. */
export type Fio = { readonly operations: number; readonly bytes: number; readonly seconds: number };

export type WorkloadsLab = {
  /**
   * Nothing but what runs the others; two workers on one CPU; one that writes to another by a pipe; threads and one mutex; a file
   * mapped, touched and let go of.
   */
  readonly stress: Readonly<
    Record<'nothing' | keyof typeof stressors, { readonly used: Usage; readonly told: Newest }>
  >;
  /** One I/O after another, past the page cache, to a disk that takes 20 ms. */
  readonly fio: { readonly read: Fio; readonly write: Fio; readonly told: Newest };
};

const root = '/sys/fs/cgroup';
const tools = '/lab/workloads/usr';
const libraries = `${tools}/lib/x86_64-linux-gnu`;
const stressors = {
  cpu: ['--cpu', '2', '--taskset', '2', '--timeout', '6'],
  pipe: ['--switch', '1', '--switch-ops', '5000'],
  mutex: ['--mutex', '1', '--mutex-procs', '4', '--timeout', '5'],
  faults: ['--fault', '1', '--fault-ops', '1000'],
} as const;

writeFileSync(`${root}/cgroup.subtree_control`, '+cpu +memory +io');
const disk = await loadScsiDisk({ from: 4096, count: 1 });
writeFileSync(`/sys/block/${disk.name}/queue/scheduler`, 'mq-deadline');
disk.set({ ndelay: 20_000_000 });
const told = await startTold({ profile: 'full' });
const boxes: CgroupBox[] = [];
try {
  // A fault that waits for a file is begun twice, and the memory controller counts it so: all are to find theirs in memory.
  await inBox(run => run('sh', '-c', `cat ${tools}/bin/stress-ng ${libraries}/*.so* >/dev/null`));
  const runTrue = () => inBox(async run => usageOf(await run('true')));
  await runTrue();
  const stress: Record<string, { used: Usage; told: Newest }> = { nothing: await runTrue() };
  for (const [name, options] of Object.entries(stressors))
    stress[name] = await inBox(async run => usageOf(await run('stress-ng', ...options)));
  const { used, told: ofFio } = await inBox(runFio);
  console.log(JSON.stringify({ stress, fio: { ...used, told: ofFio } }));
} finally {
  await told.stop();
  for (const box of boxes) await box.end();
}

type Run = (...command: string[]) => Promise<{ said: string; usage: string }>;

/** What `work` says when it has run its command in a new cgroup, and what the agent has told of that by then. */
async function inBox<T>(work: (run: Run) => Promise<T>): Promise<{ used: T; told: Newest }> {
  const box = makeCgroupBox(root);
  boxes.push(box);
  const used = await work(async (...command) => {
    const [said, usage] = [
      `/tmp/${basename(box.folder)}.said`,
      `/tmp/${basename(box.folder)}.usage`,
    ];
    const line = `export LD_LIBRARY_PATH=${libraries}:${libraries}/ceph PATH=${tools}/bin:$PATH
exec time -o ${usage} -f '%e %U %S %R %F %w %c' "$0" "$@" >${said}`;
    const [code] = await once(box.spawn('sh', '-c', line, ...command), 'exit');
    if (code !== 0) throw new Error(`${command.join(' ')}: exit code ${code}`);
    return { said: readFileSync(said, 'utf8'), usage: readFileSync(usage, 'utf8') };
  });
  // Details are told every second.
  await sleep(3000);
  return { used, told: newestOf(`/${basename(box.folder)}`) };
}

function usageOf({ usage }: { usage: string }): Usage {
  const [elapsed = 0, user = 0, system = 0, minorFaults = 0, majorFaults = 0, ...switches] = usage
    .trim()
    .split(' ')
    .map(Number);
  const [voluntary = 0, involuntary = 0] = switches;
  return { elapsed, user, system, minorFaults, majorFaults, voluntary, involuntary };
}

async function runFio(run: Run): Promise<{ read: Fio; write: Fio }> {
  const { said } = await run(
    ...[
      'fio',
      '--name=lab',
      `--filename=/dev/${disk.name}`,
      '--size=8m',
      '--rw=randrw',
      '--bs=16k',
    ],
    ...['--direct=1', '--ioengine=psync', '--number_ios=200', '--output-format=json'],
  );
  type Job = { total_ios: number; io_bytes: number; clat_ns: { mean: number } };
  const [job] = (JSON.parse(said) as { jobs: Record<'read' | 'write', Job>[] }).jobs;
  if (job === undefined) throw new Error(`fio said: ${said}`);
  const of = ({ total_ios: operations, io_bytes: bytes, clat_ns: { mean } }: Job): Fio => ({
    operations,
    bytes,
    seconds: (mean * operations) / 1e9,
  });
  return { read: of(job.read), write: of(job.write) };
}

function newestOf(id: string): Newest {
  const newest: Record<string, number> = {};
  for (const { metric, attributes, value } of told.allPointsOf(id)) {
    if (metric.startsWith('sculptor.task.')) continue;
    const key = [metric, ...Object.values(attributes ?? {})].join(' ');
    if (typeof value === 'number') newest[key] = value;
    else {
      newest[`${key} count`] = value.count;
      newest[`${key} sum`] = value.sum ?? 0;
    }
  }
  return newest;
}
