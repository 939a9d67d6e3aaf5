import { execFile } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { createFolderWatch } from '../../src/linux/folder-watch.ts';
import { loadNative } from '../../src/linux/native.ts';
import { makeTree } from './tree.ts';

/** Folders `a` and `a/b`, both watched for files that begin with `cpu.`. */
function stage(t: ExecutionContext) {
  const tree = makeTree(t, { 'cgroup/a/b/cpu.max': 'max', 'cgroup/a/cgroup.procs': '' });
  const [a, b] = [`${tree.cgroup}/a`, `${tree.cgroup}/a/b`];
  const watch = createFolderWatch(loadNative(), ['cpu.'], t.fail);
  t.teardown(watch.stop);
  watch.add(a);
  watch.add(b);
  const told = () => {
    const { written, moved } = watch.take();
    return { written: [...written].sort(), moved };
  };
  return { watch, a, b, told };
}

const nothing = { written: [], moved: false };

test('what is written is told once, by its folder; what does not matter is not told', t => {
  const { a, b, told } = stage(t);
  t.deepEqual(told(), nothing);
  writeFileSync(`${b}/cpu.max`, '1');
  writeFileSync(`${a}/cgroup.procs`, '1');
  t.deepEqual(told(), { written: [b], moved: false });
  t.deepEqual(told(), nothing);
});

test('folders that come and go are told, and another one of the same name is watched as the first', t => {
  const { watch, a, b, told } = stage(t);
  mkdirSync(`${a}/c`);
  t.deepEqual(told(), { written: [], moved: true });
  renameSync(b, `${a}/d`);
  t.deepEqual(told(), { written: [], moved: true });
  writeFileSync(`${a}/d/cpu.max`, '1');
  t.deepEqual(told(), nothing, 'that one is watched by no name');
  mkdirSync(b);
  writeFileSync(`${b}/cpu.max`, 'max');
  t.deepEqual(told(), { written: [b], moved: true }, 'nobody heard what was written there');
  writeFileSync(`${b}/cpu.max`, '1');
  t.deepEqual(told(), { written: [b], moved: false });
  t.true(watch.complete(), 'what is gone is not refused');
  watch.remove(b);
  writeFileSync(`${b}/cpu.max`, '2');
  rmdirSync(`${a}/c`);
  t.deepEqual(told(), { written: [], moved: true });
});

test('folders that are made anew with what is in them, between two looks, are all watched', t => {
  const { watch, a, b, told } = stage(t);
  const above = a.slice(0, a.lastIndexOf('/'));
  watch.add(above);
  rmSync(a, { recursive: true });
  mkdirSync(b, { recursive: true });
  t.deepEqual(told(), { written: [a, b], moved: true });
  writeFileSync(`${b}/cpu.max`, '1');
  writeFileSync(`${a}/cpu.max`, '1');
  t.deepEqual(told(), { written: [a, b], moved: false });
});

test('who writes more than the kernel keeps makes all suspect, and costs one look', t => {
  const { watch, a, b, told } = stage(t);
  const c = `${a}/c`;
  mkdirSync(c);
  watch.add(c);
  told();
  // Two files by turns: what is like the last event is joined with it.
  const files = [0, 1].map(i => openSync(`${b}/cpu.${i}`, 'w'));
  for (let i = 0; i < 20_000; i += 1) writeSync(files[i % 2] ?? 0, '1');
  for (const file of files) closeSync(file);
  let looks = 0;
  const written = new Set<string>();
  for (let last = told(); last.written.length > 0; last = told()) {
    looks += 1;
    for (const folder of last.written) written.add(folder);
  }
  t.deepEqual([...written].sort(), [a, b, c]);
  t.true(looks <= 2, `${looks} looks`);
  writeFileSync(`${c}/cpu.max`, '1');
  t.deepEqual(told(), { written: [c], moved: false });
});

test('more than the kernel lets this user watch: it is said once, and known until all is watched', async t => {
  const url = (path: string) => JSON.stringify(new URL(`../../src/linux/${path}`, import.meta.url));
  const script = `
    const { createFolderWatch } = await import(${url('folder-watch.ts')});
    const { loadNative } = await import(${url('native.ts')});
    const { writeFileSync } = await import('node:fs');
    const told = [];
    const limit = to => writeFileSync('/proc/sys/user/max_inotify_watches', to);
    const watch = createFolderWatch(loadNative(), [''], why => told.push(/ENOSPC/.test(why)));
    limit('1');
    watch.add('/proc');
    told.push(watch.complete());
    watch.add('/sys');
    watch.add('/usr');
    told.push(watch.complete());
    limit('10');
    watch.add('/sys');
    watch.remove('/usr');
    told.push(watch.complete());
    watch.stop();
    writeFileSync('/proc/sys/user/max_inotify_instances', '0');
    const none = createFolderWatch(loadNative(), [''], why => told.push(/EMFILE/.test(why)));
    none.add('/proc');
    told.push(none.complete(), none.take().moved);
    none.stop();
    console.log(told.join());`;
  const { stdout } = await promisify(execFile)('unshare', [
    ...['--user', '--map-root-user', process.execPath, '--input-type=module', '-e', script],
  ]);
  t.is(stdout, 'true,true,false,true,true,false,false\n');
});
