import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { configSchema } from '../../src/contract/config.ts';
import type { OutgoingEvent } from '../../src/contract/events.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { generateKeys } from '../../src/otlp/signing.ts';
import { restoreAll } from '../../src/sculptor/restore.ts';
import { startSculptor } from '../../src/sculptor/sculptor.ts';
import { kill, move, nextLine, openCgroupLab } from '../sculptor/support/cgroup-lab.ts';
import { needs } from '../support/needs.ts';
import { ownUid, realTime } from '../support/sockets.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'cgroupV1Cpuset', 'twoCpus');

type Stage = Awaited<ReturnType<typeof stage>>;

/** Four instances whose every value differs from the default, and a move of each kind. */
async function stage(t: ExecutionContext) {
  const lab = openCgroupLab(t);
  const folder = folderOf(t);
  const weight = lab.make('weight');
  const idle = lab.make('idle');
  const set = lab.make('set', ['cpu', 'cpuset']);
  const threads = lab.make('threads');
  lab.write(weight, 'cpu.shares', '555');
  lab.write(idle, 'cpu.shares', '3210');
  await lab.spawn(set, ['cpu', 'cpuset']);
  const free = await lab.spawn(threads);
  const pinned = await lab.spawn(threads);
  lab.native.setAffinity(Int32Array.of(pinned.pid), Int32Array.of(0));
  const state = () => ({
    weight: lab.read(weight, 'cpu.shares'),
    idle: [lab.read(idle, 'cpu.idle'), lab.read(idle, 'cpu.shares')],
    set: lab.read(set, 'cpuset.cpus'),
    free: lab.native.getAffinity(free.pid),
    pinned: lab.native.getAffinity(pinned.pid),
  });
  const moves = [
    move(weight, { weight: 6400 }),
    move(idle, { idle: true }),
    move(set, { cpus: [1] }),
    move(threads, { cpus: [1] }),
  ];
  const journal = join(folder, 'journal.db');
  return { lab, folder, journal, state, before: state(), moves, tasks: [free, pinned] };
}

function folderOf(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-crash-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** A disk of its own below a folder. */
function mountDisk(t: ExecutionContext, folder: string): { path: string; fill: () => string } {
  const path = join(folder, 'disk');
  mkdirSync(path);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', path]);
  t.teardown(() => execFileSync('umount', [path]));
  const filler = join(path, 'filler');
  return {
    path,
    /** Takes all the space there is; answers the file that has it. */
    fill: () => {
      t.throws(() => writeFileSync(filler, Buffer.alloc(1 << 20)), { code: 'ENOSPC' });
      return filler;
    },
  };
}

async function crash(staged: Stage, point: string): Promise<void> {
  const script = new URL('../sculptor/support/crash-child.ts', import.meta.url).pathname;
  const child: ChildProcess = spawn(
    process.execPath,
    [script, staged.journal, point, JSON.stringify(staged.moves)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  try {
    await nextLine(child);
  } finally {
    await kill(child);
  }
}

function restore(staged: Stage, t: ExecutionContext) {
  return restoreAll({
    journal: staged.journal,
    native: staged.lab.native,
    roots: hostRoots,
    say: (level, message) => t.log(level, message),
  });
}

for (const point of ['journalled', 'mid-apply', 'observing']) {
  test(`kill -9 when ${point}, then restore: every value is as before`, async t => {
    const staged = await stage(t);
    await crash(staged, point);
    if (point === 'observing') t.notDeepEqual(staged.state(), staged.before);
    const report = restore(staged, t);
    t.is(report.failed, 0);
    t.is(report.yielded, 0);
    t.is(report.actions.length, 1);
    t.is(report.ended[0]?.state, 'restored');
    t.deepEqual(staged.state(), staged.before);
    t.deepEqual(restore(staged, t).actions, [], 'nothing is open any more');
  });

  test(`kill -9 when ${point}, then a start: every value is as before, and it is told`, async t => {
    const staged = await stage(t);
    await crash(staged, point);
    const told: OutgoingEvent[] = [];
    const sculptor = await start(staged, told, t);
    t.deepEqual(staged.state(), staged.before);
    await sculptor.stop();
    const action = told.find(event => event.eventName === 'sculptor.action');
    t.is(action?.attributes['sculptor.action.state'], 'restored');
    t.is(action?.attributes['sculptor.reason'], 'crash-recovery');
    t.false(existsSync(join(staged.folder, 'sculptor.sock')));
  });
}

test('on a disk that is full all is given back too, by restore as by a start, and recorded when there is space', async t => {
  const staged = await stage(t);
  const disk = mountDisk(t, staged.folder);
  const full = { ...staged, journal: join(disk.path, 'journal.db') };
  await crash(full, 'observing');
  const filler = disk.fill();
  const report = restore(full, t);
  t.is(report.failed, 0);
  t.deepEqual(staged.state(), staged.before);
  t.regex(report.messages.join(), /could not be closed in the journal/);
  const sculptor = await start(full, [], t);
  t.is(sculptor.status().leftovers, 1);
  await sculptor.stop();
  rmSync(filler);
  t.is(restore(full, t).actions.length, 1);
  t.deepEqual(restore(full, t).actions, []);
});

test('a crash in the middle of giving back is finished by the next restore', async t => {
  const staged = await stage(t);
  await crash(staged, 'observing');
  // What an undo that was killed had done: the flag is back, the weight is not.
  staged.lab.write(staged.lab.id('idle'), 'cpu.idle', '0');
  t.is(restore(staged, t).failed, 0);
  t.deepEqual(staged.state(), staged.before);
});

test('beside a sculptor that lives nothing is given back and no other acts, whatever its journal: who it is is said', async t => {
  const staged = await stage(t);
  const other = { ...staged, folder: folderOf(t), journal: join(staged.folder, 'other.db') };
  const sculptor = await start(staged, [], t);
  t.teardown(() => sculptor.stop());
  const busy = {
    code: 'KERNEL_BUSY',
    message: new RegExp(`^process ${process.pid} .* acts on this host.*Stop that one`),
  };
  t.throws(() => restore(other, t), busy);
  await t.throwsAsync(() => start(other, [], t), busy);
  await sculptor.stop();
  t.is(restore(other, t).failed, 0);
  await (await start(other, [], t)).stop();
});

test('a journal that another process holds is refused, and says which', async t => {
  const staged = await stage(t);
  const script = new URL('../sculptor/support/crash-child.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [script, staged.journal, 'observing', '[]'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await nextLine(child);
    t.throws(() => restore(staged, t), {
      code: 'JOURNAL',
      message: new RegExp(`process ${child.pid} holds it`),
    });
  } finally {
    await kill(child);
  }
  t.is(restore(staged, t).failed, 0);
});

test('values whose task or cgroup ended meanwhile are counted as gone, and nothing fails', async t => {
  const staged = await stage(t);
  await crash(staged, 'observing');
  // Until it is reaped a task has an affinity, which is given back.
  await Promise.all(staged.tasks.map(kill));
  await staged.lab.remove(staged.lab.id('threads'));
  await staged.lab.remove(staged.lab.id('weight'));
  const report = restore(staged, t);
  t.is(report.failed, 0);
  t.true(report.gone >= 3, `${report.gone}`);
});

function start(staged: Stage, told: OutgoingEvent[], t: ExecutionContext) {
  const config = configSchema.parse({
    sculptor: { listen: join(staged.folder, 'sculptor.sock'), journal: staged.journal },
  });
  return startSculptor({
    config: config.sculptor,
    sockets: config.sockets,
    hostId: 'host-1',
    native: staged.lab.native,
    roots: hostRoots,
    peerUid: ownUid,
    trustedKeys: [generateKeys().publicKey],
    clock: realTime,
    say: (level, message) => t.log(level, message),
    events: {
      emit: event => void told.push(event),
      stop: () => Promise.resolve(),
      counters: () => ({}),
    },
  });
}
