import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { readNiceScope } from '../../src/linux/nice-scope.ts';
import { hostRoots } from '../../src/linux/roots.ts';
import { needs } from '../support/needs.ts';

const test = needs('root');
const inSessions = readNiceScope(hostRoots, process.pid).kind === 'session';
const inSession = inSessions ? test : test.skip;
if (!inSessions) console.error('# skipped: this kernel has no autogroups, or weighs our cgroup');

const started = getPriority() + 5;

/** A process of its own that starts at that raises its priority: what it says, and where it and its session end up. */
function raise(nice: number | null, ...wrapper: string[]): string[] {
  const program = `
    import { existsSync, readdirSync, readFileSync } from 'node:fs';
    import { getPriority, setPriority } from 'node:os';
    import { raisePriority } from './src/cli/priority.ts';
    const say = (level, text) => console.log(level + ': ' + text);
    raisePriority(${nice}, say);
    raisePriority(${nice}, say);
    const all = readdirSync('/proc/self/task').map(tid => getPriority(Number(tid)));
    console.log([...new Set(all)].join());
    const session = '/proc/self/autogroup';
    if (existsSync(session)) console.log(readFileSync(session, 'utf8').trim());`;
  const node = [process.execPath, '--input-type=module-typescript', '-e', program];
  const [command = '', ...args] = [...wrapper, 'nice', '-n', '5', ...node];
  const cwd = new URL('../../', import.meta.url);
  const { stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  return (stdout + stderr).trim().split('\n');
}

test('what runs as root takes the nice value that is configured, and says so once', t => {
  const [said, at] = raise(-10);
  t.regex(
    said ?? '',
    /^info: runs at nice -10( within .+)?; `nice: null` in the configuration leaves it as it was$/,
  );
  t.is(at, '-10');
});

test('null leaves it as it was started', t => {
  t.is(raise(null)[0], `${started}`);
});

test('root that may not, as in a container, stays where it is and says why', t => {
  const [first, second, at] = raise(-10, 'setpriv', '--bounding-set', '-sys_nice');
  t.regex(first ?? '', /^warn: stays at nice \d+, not -10: .*permission denied/);
  t.is(second, first);
  t.is(at, `${started}`);
});

inSession('a session of its own is raised among sessions and cgroups', t => {
  const [said, at, session] = raise(-10, 'setsid', '--wait');
  t.is(said, 'info: runs at nice -10; `nice: null` in the configuration leaves it as it was');
  t.is(at, '-10');
  t.regex(session ?? '', / nice -10$/);
});

inSession(
  'what is also a shell’s session is left as it is, and it is said where the value counts',
  t => {
    const [said, at, session] = raise(-10);
    t.regex(said ?? '', /^info: runs at nice -10 within its session, .*setsid/);
    t.is(at, '-10');
    t.is(session, readFileSync('/proc/self/autogroup', 'utf8').trim());
  },
);
