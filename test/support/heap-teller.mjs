// Imported into a process that a test watches: SIGUSR2 has it collect its garbage and write what it holds to HEAP_TELLER_FILE.
import { renameSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');
const file = process.env.HEAP_TELLER_FILE;

process.on('SIGUSR2', () => {
  collect();
  // Array buffers are among what is external.
  const { heapUsed, external } = process.memoryUsage();
  writeFileSync(`${file}.new`, JSON.stringify({ heapUsed, external }));
  renameSync(`${file}.new`, file);
});
