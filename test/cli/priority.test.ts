import { spawnSync } from 'node:child_process';
import { getPriority } from 'node:os';
import { needs } from '../support/needs.ts';

const test = needs('root');

const started = getPriority() + 5;

/** A process of its own that starts at that raises its priority: what it says, and where it ends up. */
function raise(nice: number | null, ...wrapper: string[]): string {
  const program = `
    import { readdirSync } from 'node:fs';
    import { getPriority, setPriority } from 'node:os';
    import { raisePriority } from './src/cli/priority.ts';
    const say = (level, text) => console.log(level + ': ' + text);
    raisePriority(${nice}, say);
    raisePriority(${nice}, say);
    const all = readdirSync('/proc/self/task').map(tid => getPriority(Number(tid)));
    console.log([...new Set(all)].join());`;
  const node = [process.execPath, '--input-type=module-typescript', '-e', program];
  const [command = '', ...args] = [...wrapper, 'nice', '-n', '5', ...node];
  const cwd = new URL('../../', import.meta.url);
  const { stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  return stdout + stderr;
}

test('what runs as root takes the nice value that is configured, and says so once', t => {
  const said = 'info: runs at nice -10; `nice: null` in the configuration leaves it as it was';
  t.is(raise(-10), `${said}\n-10\n`);
});

test('null leaves it as it was started', t => {
  t.is(raise(null), `${started}\n`);
});

test('root that may not, as in a container, stays where it is and says why', t => {
  const [first, second, at] = raise(-10, 'setpriv', '--bounding-set', '-sys_nice').split('\n');
  t.regex(first ?? '', /^warn: stays at nice \d+, not -10: .*permission denied/);
  t.is(second, first);
  t.is(at, `${started}`);
});
