/** `npm run lab [-- KERNEL] [--systemd]`: a shell in the lab, for a person. */
import { connect } from 'node:net';
import { withLab } from './lab.ts';

const [kernel = '6.1'] = process.argv.slice(2).filter(argument => !argument.startsWith('--'));
const init = process.argv.includes('--systemd') ? 'systemd' : 'plain';

if (!process.stdin.isTTY) {
  console.error(
    'npm run lab: a terminal is wanted; for commands without one, see withLab in test/lab/lab.ts',
  );
  process.exit(2);
}
console.error(
  `lab: starting Linux ${kernel} (${init === 'plain' ? 'a shell' : 'systemd'} as process 1); about 15 s…`,
);
const waits = () =>
  console.error('lab: another lab runs on this machine; waiting until it has ended');
await withLab({ kernel, init, shell: true, deadlineSeconds: 24 * 3600, waits }, async lab => {
  console.error(
    `lab: up after ${lab.bootSeconds.toFixed(0)} s: 4 CPUs, 2 nodes, cgroup v2; the checkout is /checkout, and nothing that you write stays.
lab: leave with "exit" or Ctrl-D; Ctrl-] ends the machine at once.`,
  );
  const shell = connect(lab.shellSocket);
  const ended = new Promise<void>(resolve => shell.once('close', () => resolve()));
  process.stdin.setRawMode(true);
  process.stdin.on('data', (bytes: Buffer) => {
    if (bytes.length === 1 && bytes[0] === 0x1d) shell.destroy();
    else shell.write(bytes);
  });
  shell.pipe(process.stdout, { end: false });
  shell.write(`stty rows ${process.stdout.rows} columns ${process.stdout.columns}; clear\n`);
  await ended;
});
process.stdin.setRawMode(false);
process.stdin.pause();
console.error('\nlab: ended; nothing of it is left');
