import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import ava from 'ava';
import { openProfileSink } from '../../src/agent/profiles/profile-sink.ts';
import { profileSchema } from '../../src/contract/profile.ts';
import { loadNative } from '../../src/linux/native.ts';
import { readTaskStat } from '../../src/linux/procfs.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { beside, needs } from '../support/needs.ts';
import { endChild, eventually, stageScene } from '../support/scene.ts';
import { realTime } from '../support/sockets.ts';
import { coresOf, shareTold, startTold } from '../support/told-agent.ts';

const alone = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');
const test = beside(alone);
const shared = shareTold();
ava.after.always(shared.stop);

test('the agent tells run time and wait of a real cgroup, its placement, and its end', async t => {
  t.timeout(60_000);
  const told = await shared.told();
  const scene = stageScene('sculptor-agent');
  const [id, convoy] = [scene.id('pair'), scene.id('convoy')];
  const locks = (instance: string) =>
    told
      .pointsOf('sculptor.offcpu.time', instance)
      .filter(({ attributes }) => attributes['sculptor.reason'] === 'lock');
  try {
    const made = performance.now();
    scene.spawn('pair', 'spin', '--threads', '4');
    scene.spawn('convoy', 'convoy', '--threads', '4');
    const placed = await eventually('its placement', 3, () => told.placementsOf(id)[0]);
    t.true(performance.now() - made < 1000, 'a new instance is placed within a second');
    t.is(placed.cgroup.parent, '/');
    t.is(placed.cgroup.weight, 100);
    t.true(placed.tasks.length >= 1 && placed.tasks.every(task => task.ownMask === false));

    // Four spinners: each second they run or wait for four, whatever else the machine does.
    await eventually('some seconds of series', 15, () =>
      told.pointsOf('container.cpu.time', id).length >= 20 ? true : null,
    );
    const used = told.pointsOf('container.cpu.time', id);
    const wait = told.pointsOf('sculptor.runqueue.wait', id);
    const together = coresOf(used) + coresOf(wait);
    t.true(Math.abs(together - 4) < 0.2, `${together} cores of four threads`);
    t.true(coresOf(wait) > 1.5);
    const values = used.map(point => Number(point.value));
    t.deepEqual(
      values,
      [...values].sort((a, b) => a - b),
      'totals never fall',
    );
    t.is(new Set(used.map(point => point.start)).size, 1);
    // Of what was there before the agent the counting begins with a reading.
    const late = ['/', id].flatMap(told.allPointsOf).filter(({ start, time }) => start > time);
    t.deepEqual([...new Set(late.map(({ metric }) => metric))], [], 'no series begins after it');

    const histogram = await eventually(
      'the latency histogram',
      5,
      () => told.pointsOf('sculptor.runqueue.latency', id).at(-1)?.value,
    );
    t.true(typeof histogram === 'object' && histogram.count > 100);
    t.true(told.pointsOf('sculptor.task.cpu.time', id).length >= 4);
    const last = (metric: string, attribute: string, value: string) =>
      Number(
        told.pointsOf(metric, id).findLast(point => point.attributes[attribute] === value)?.value,
      );
    const inUserMode = last('sculptor.cpu.time', 'cpu.mode', 'user');
    const inKernel = last('sculptor.cpu.time', 'cpu.mode', 'kernel');
    t.true(inUserMode > inKernel, `${inUserMode} s user, ${inKernel} kernel`);
    // Four threads of one instance on two CPUs wait for each other, also where others leave them little of those.
    await eventually('half a second for each other', 30, () =>
      last('sculptor.runqueue.wait.by_preemptor', 'sculptor.preemptor', id) > 0.5 ? true : null,
    );
    t.true(
      last('sculptor.cpu.context_switches', 'process.context_switch.type', 'involuntary') > 50,
    );
    // Of four threads that queue up for one lock three wait for it; who spins waits for none.
    const queued = await eventually('some readings of the convoy', 10, () => {
      const series = locks(convoy);
      return series.length > 3 ? series : null;
    });
    const rate = coresOf(queued, 1);
    t.true(Math.abs(rate - 3) < 0.3, `${rate} of three threads wait for their lock`);
    const spun = locks(id).at(-1)?.value;
    t.true(Number(spun) < 0.1, `spinners wait ${spun} s for locks`);
    t.true(told.topologies() > 0);

    await scene.end();
    await eventually('its end', 5, () => told.placementsOf(id).find(each => !each.alive));
    t.is(told.agent.status().exports.lastFailure, null);
    // What others on this machine bring about: cgroups that were too short-lived to be named, switches that the kernel does
    // not show, a storage that could not be had while they fork.
    const others = /unnamed$|^withheld_switch$|^task_storage$|^pair$/;
    t.deepEqual(
      Object.entries(told.agent.status().lost).filter(
        ([reason, count]) => count > 0 && !others.test(reason),
      ),
      [],
    );
  } finally {
    await scene.end();
  }
});

test('what a cgroup at rest is given is told soon after somebody wrote it, and a cgroup that is gone soon after it went', async t => {
  t.timeout(60_000);
  const told = await shared.told();
  const scene = stageScene('sculptor-agent-rest');
  const id = scene.id('calm');
  try {
    scene.spawn('calm', 'crowd', '--count', '2', '--wakers', '0');
    await eventually('its placement', 3, () => told.placementsOf(id)[0]);
    // Nobody looks at who has done nothing, but once a minute.
    await sleep(2000);
    const before = told.placementsOf(id).length;
    const wrote = performance.now();
    scene.write('calm', 'cpu.cfs_quota_us', '50000');
    scene.write('calm', 'cpu.shares', '2048');
    const given = await eventually('its quota and weight', 5, () =>
      told
        .placementsOf(id)
        .find(({ cgroup }) => cgroup.quotaCores === 0.5 && cgroup.weight === 200),
    );
    t.true(performance.now() - wrote < 3000, 'it was not looked at by chance');
    t.true(given.alive);
    t.true(told.placementsOf(id).length <= before + 2);
    await scene.end();
    const ended = performance.now();
    await eventually('its end', 10, () => told.placementsOf(id).find(each => !each.alive));
    t.true(
      performance.now() - ended < 4000,
      'a look at all every ten seconds would have found it, too',
    );
  } finally {
    await scene.end();
  }
});

test('two spinners on one CPU use it by halves and wait by halves; one that ends is no failure', async t => {
  t.timeout(60_000);
  const told = await shared.told();
  const scene = stageScene('sculptor-agent-one');
  const id = scene.id('pair');
  const native = loadNative();
  try {
    const spinners = [scene.spawn('pair', 'spin'), scene.spawn('pair', 'spin')];
    const tids = await eventually('two spinners', 3, () => {
      const all = scene.read('pair', 'tasks').split('\n').map(Number);
      const spinning = all.filter(tid => readTaskStat(hostRoots, tid)?.name.startsWith('sculpt'));
      return spinning.length >= 2 ? spinning : null;
    });
    native.setAffinity(Int32Array.from(tids), Int32Array.from([0]));
    const pinned = await eventually('the change of their affinity', 3, () =>
      told
        .placementsOf(id)
        .find(
          each => each.tasks.length >= 2 && each.tasks.every(task => task.affinity.join() === '0'),
        ),
    );
    t.true(pinned.tasks.every(task => task.ownMask));

    const since = Date.now() / 1000;
    const later = (metric: string) => told.pointsOf(metric, id).filter(p => p.time > since);
    await eventually('three seconds of series', 10, () =>
      later('container.cpu.time').length > 15 ? true : null,
    );
    const [used, wait] = [
      coresOf(later('container.cpu.time'), 0),
      coresOf(later('sculptor.runqueue.wait'), 0),
    ];
    t.true(Math.abs(used + wait - 2) < 0.1, `${used} used and ${wait} waited of two`);
    t.true(used <= 1.02 && wait >= 0.95, `${used} used and ${wait} waited on one CPU`);

    const [first] = spinners;
    if (first) await endChild(first);
    await eventually('the placement without it', 4, () =>
      told.placementsOf(id).at(-1)?.taskCount === 1 ? true : null,
    );
    t.is(told.agent.status().lost['failed_reads'], 0);
  } finally {
    await scene.end();
  }
});

alone('of exports and profiles each that does not arrive is counted, by why, and told', async t => {
  t.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-profiles-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  execFileSync('mkfifo', [`${folder}/pipe`]);
  const reader = openSync(`${folder}/pipe`, constants.O_RDONLY | constants.O_NONBLOCK);
  const sink = openProfileSink(`${folder}/pipe`, realTime, () => undefined);
  let [made, batch, refused, refuses] = [0, 0, 0, 0];
  const told = await startTold({}, hostRoots, {
    takes: () => {
      if (refuses === 0) return true;
      [refused, refuses] = [refused + 1, refuses - 1];
      return false;
    },
    profileSink: {
      ...sink,
      write: profiles => {
        batch = profiles.length;
        made += batch;
        sink.write(profiles);
      },
    },
  });
  const scene = stageScene('sculptor-profiles');
  const last = (metric: string, reason: string) =>
    Number(
      told
        .pointsOf(metric, 'test-host')
        .findLast(({ attributes }) => attributes['sculptor.reason'] === reason)?.value,
    );
  let arrived = '';
  const readAll = (): void => {
    const buffer = Buffer.alloc(1 << 16);
    try {
      for (let count = -1; count !== 0; arrived += buffer.toString('latin1', 0, count))
        count = readSync(reader, buffer);
    } catch (error) {
      if ((error as { code?: string }).code !== 'EAGAIN') throw error;
    }
  };
  try {
    for (let i = 0; i < 12; i += 1) scene.spawn(`${i}`, 'threads', '--count', '1');
    await eventually('profiles that came while nobody read', 20, () =>
      last('sculptor.agent.profiles.lost', 'busy') > 0 ? true : null,
    );
    refuses = 3;
    const all = () => sink.written() + sink.lost().busy + sink.lost().failed;
    await eventually('all is written, or lost', 20, () => {
      readAll();
      return refuses === 0 && all() === made && sink.written() > 0 ? true : null;
    });
    readAll();
    closeSync(reader);
    await eventually('profiles that nobody will read', 20, () =>
      last('sculptor.agent.profiles.lost', 'failed') > 0 ? true : null,
    );
    t.is(refused, 3);
    t.is(last('sculptor.agent.exports.lost', 'failed'), refused);
    t.is(last('sculptor.agent.exports.lost', 'too_large'), 0);
  } finally {
    await scene.end();
    await told.stop();
    await sink.stop();
  }
  const lines = arrived.trimEnd().split('\n');
  for (const line of lines) t.is(profileSchema.parse(JSON.parse(line)).hostId, 'test-host');
  const { busy, failed } = sink.lost();
  t.log(`${made} profiles: ${lines.length} arrived, ${busy} came meanwhile, ${failed} too late`);
  t.is(lines.length + busy + failed, made);
  t.is(last('sculptor.agent.profiles.lost', 'busy'), busy);
  // The last reading's own would be told with the next.
  t.is(last('sculptor.agent.profiles.lost', 'failed'), failed - batch);
});
