import { execFileSync } from 'node:child_process';
import test from 'ava';

const module = new URL('../../src/linux/read-file.ts', import.meta.url).href;

/** As somebody who may not see what other users' processes stand on; loaded before, since that may not be his either. */
const asNobody = `const { readInode } = await import('${module}');
if (process.getuid() === 0) process.seteuid(65534);
console.log(JSON.stringify([readInode('/proc/1/ns/net'), readInode('/nowhere'), readInode('/proc/self/stat') > 0]))`;

test('an inode that may not be seen, or is not there, is none', t => {
  const told = execFileSync(process.execPath, ['--input-type=module', '-e', asNobody]);
  t.deepEqual(JSON.parse(`${told}`), [null, null, true]);
});
