import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import test, { type ExecutionContext } from 'ava';
import { listScripts, readScriptFile } from '../../../src/agent/custom/folder.ts';

const ownUid = process.getuid?.() ?? 0;
const module = new URL('../../../src/agent/custom/folder.ts', import.meta.url).href;

function makeFolder(t: ExecutionContext): string {
  const folder = mkdtempSync(`${tmpdir()}/sculptor-folder-`);
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** What reading says, by a process of its own: one that hangs is ended. */
function refusalOf(folder: string, file: string): string {
  const program = `
    import { readScriptFile } from '${module}';
    try { readScriptFile('${folder}', '${file}', ${ownUid}); } catch (error) { console.log(error.message); }`;
  const options = ['--input-type=module-typescript', '-e', program];
  return spawnSync(process.execPath, options, { timeout: 10_000, encoding: 'utf8' }).stdout;
}

test('a FIFO is refused without waiting for a writer, where only the owner may put it and where all may', t => {
  const folder = makeFolder(t);
  execFileSync('mkfifo', ['-m', '600', `${folder}/f.bt`]);
  t.regex(refusalOf(folder, 'f.bt'), /f\.bt: got no regular file/);
  chmodSync(folder, 0o777);
  t.regex(refusalOf(folder, 'f.bt'), /got owner \d+, mode 777/);
});

test('where others may write, the folder is judged before a file of it is opened', t => {
  const folder = makeFolder(t);
  chmodSync(folder, 0o777);
  t.throws(() => readScriptFile(folder, 'none.bt', ownUid), { message: /mode 777/ });
});

test('a script is read whole, also by a link; one that is too big, or says less than it holds, is not', t => {
  const folder = makeFolder(t);
  writeFileSync(`${folder}/a.bt`, 'x'.repeat(65_536), { mode: 0o600 });
  symlinkSync('a.bt', `${folder}/link.bt`);
  t.is(readScriptFile(folder, 'link.bt', ownUid).length, 65_536);
  truncateSync(`${folder}/a.bt`, 65_537);
  t.throws(() => readScriptFile(folder, 'a.bt', ownUid), { message: /more than 65536 bytes/ });
  t.is(statSync('/proc/kallsyms').size, 0);
  symlinkSync('/proc/kallsyms', `${folder}/big.bt`);
  t.throws(() => readScriptFile(folder, 'big.bt', ownUid), { message: /more than 65536 bytes/ });
});

test('a file that cannot be looked at is listed with why, and the others as ever; one that is gone is not', t => {
  const folder = makeFolder(t);
  symlinkSync('loop.bt', `${folder}/loop.bt`);
  symlinkSync('nowhere', `${folder}/gone.bt`);
  writeFileSync(`${folder}/a.bt`, '');
  const { files } = listScripts(folder);
  t.deepEqual(
    files.map(({ file }) => file),
    ['a.bt', 'loop.bt'],
  );
  t.regex(files[1]?.fingerprint ?? '', /ELOOP/);
  t.throws(() => readScriptFile(folder, 'loop.bt', ownUid), { message: /loop\.bt: .*ELOOP/ });
});
