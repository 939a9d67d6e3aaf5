import { execFile } from 'node:child_process';
import { mkdirSync, renameSync, rmdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { createFolderWatch } from '../../src/linux/folder-watch.ts';
import { makeTree } from './tree.ts';

/** Folders `a` and `a/b`, both watched for files that begin with `cpu.`. */
function stage(t: ExecutionContext) {
  const tree = makeTree(t, { 'cgroup/a/b/cpu.max': 'max', 'cgroup/a/cgroup.procs': '' });
  const [a, b] = [`${tree.cgroup}/a`, `${tree.cgroup}/a/b`];
  const watch = createFolderWatch(file => file.startsWith('cpu.'));
  t.teardown(watch.stop);
  watch.add(a);
  watch.add(b);
  /** What is told once the events have come. */
  const told = async () => {
    await sleep(20);
    // A timer that is late comes before the events that wait.
    await turn();
    const { written, moved } = watch.take();
    return { written: [...written], moved };
  };
  return { watch, a, b, told };
}

const nothing = { written: [], moved: false };

test('what is written is told once, by its folder; what does not matter is not told', async t => {
  const { a, b, told } = stage(t);
  t.deepEqual(await told(), nothing);
  writeFileSync(`${b}/cpu.max`, '1');
  writeFileSync(`${a}/cgroup.procs`, '1');
  t.deepEqual(await told(), { written: [b], moved: false });
  t.deepEqual(await told(), nothing);
});

test('folders that come and go are told, and another one of the same name is watched as the first', async t => {
  const { watch, a, b, told } = stage(t);
  mkdirSync(`${a}/c`);
  t.deepEqual(await told(), { written: [], moved: true });
  renameSync(b, `${a}/d`);
  t.deepEqual(await told(), { written: [], moved: true });
  t.true(watch.complete(), 'what is gone was not refused');
  mkdirSync(b);
  writeFileSync(`${b}/cpu.max`, 'max');
  t.deepEqual(await told(), { written: [b], moved: true }, 'nobody knows what was written there');
  t.deepEqual(await told(), nothing);
  writeFileSync(`${b}/cpu.max`, '1');
  t.deepEqual(await told(), { written: [b], moved: false });
  watch.remove(b);
  writeFileSync(`${b}/cpu.max`, '2');
  rmdirSync(`${a}/c`);
  t.deepEqual(await told(), { written: [], moved: true });
});

test('one that is written to all the time is not listened to until the next look, and nothing is missed', async t => {
  const { a, b, told } = stage(t);
  let events = 0;
  const noisy = createFolderWatch(() => {
    events += 1;
    return false;
  });
  t.teardown(noisy.stop);
  noisy.add(a);
  for (let i = 0; i < 200; i += 1) {
    writeFileSync(`${a}/cgroup.procs`, '1');
    await sleep(1);
  }
  t.true(events > 5 && events < 20, `${events} events of 400`);
  t.deepEqual([...noisy.take().written], [a], 'it may have been written to meanwhile');
  await told();
  writeFileSync(`${b}/cpu.max`, '1');
  writeFileSync(`${a}/cpu.weight`, '1');
  t.deepEqual((await told()).written.sort(), [a, b]);
});

test('more than the kernel lets this user watch: it says that it does not see all, until it does', async t => {
  const script = `
    const { createFolderWatch } = await import(${JSON.stringify(new URL('../../src/linux/folder-watch.ts', import.meta.url).href)});
    const { writeFileSync } = await import('node:fs');
    const told = [];
    const watch = createFolderWatch(() => true, why => told.push(/ENOSPC/.test(why)));
    watch.add('/proc');
    told.push(watch.complete());
    watch.add('/sys');
    told.push(watch.complete());
    writeFileSync('/proc/sys/user/max_inotify_watches', '10');
    watch.add('/sys');
    told.push(watch.complete());
    watch.stop();
    console.log(told.join());`;
  const { stdout } = await promisify(execFile)('unshare', [
    ...['--user', '--map-root-user', 'sh', '-c'],
    'echo 1 > /proc/sys/user/max_inotify_watches && exec "$0" "$@"',
    ...[process.execPath, '--input-type=module', '-e', script],
  ]);
  t.is(stdout, 'true,true,false,true\n');
});
