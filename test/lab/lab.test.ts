import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { eventually } from '../support/scene.ts';
import { withLab } from './lab.ts';
import { needsLab } from './needs-lab.ts';

const labTest = needsLab();

labTest(
  'the lab is a host of two NUMA nodes with cgroup v2, and its commands have exit codes',
  async t => {
    t.timeout(300_000);
    await withLab({}, async lab => {
      t.log(`answered after ${lab.bootSeconds.toFixed(1)} s`);
      t.is(await lab.run('cat /sys/devices/system/node/node0/distance'), '10 21\n');
      t.is(await lab.run('cat /sys/devices/system/node/node1/cpulist'), '2-3\n');
      t.regex(await lab.run('cat /sys/fs/cgroup/cgroup.controllers'), /cpuset cpu io memory/);
      t.regex(await lab.run('uname -r'), /^6\.1\./);
      t.regex(await lab.run('node -p process.version'), /^v24/);
      t.regex(await lab.run('/checkout/bin/sculpt doctor'), /The main job can run here/);
      const { code, err } = await lab.tryRun('echo no >&2; exit 3');
      t.deepEqual({ code, err }, { code: 3, err: 'no\n' });
      await t.throwsAsync(lab.run('sleep 30', { timeoutSeconds: 1 }), { message: /timed out/ });
      await lab.write('/tmp/some file', 'a\nb');
      t.is(await lab.run('cat "/tmp/some file"'), 'a\nb');
      const sleeper = await lab.start('echo begun; sleep 1000', '/tmp/log');
      await lab.until('grep -q begun /tmp/log');
      await sleeper.stop();
      t.not((await lab.tryRun(`kill -0 ${sleeper.tgid}`)).code, 0);
    });
  },
);

labTest(
  'a test that fails in the lab says why with the console, and leaves nothing behind',
  async t => {
    t.timeout(300_000);
    let folder = '';
    const failing = withLab({}, async lab => {
      folder = dirname(lab.qmpSocket);
      t.true(leftovers(folder).length > 0, 'while it runs there is something to find');
      await lab.run('echo "lab: about to fail" >/dev/console');
      throw new Error('on purpose');
    });
    const { message } = await t.throwsAsync(failing);
    t.regex(message, /^on purpose\nits console is in .*\n(.|\n)*about to fail/);
    t.regex(takeConsole(message), /lab: begins\n(.|\n)*about to fail(.|\n)*CPU#3(.|\n)*ISR/);
    t.deepEqual(leftovers(folder), []);
  },
);

labTest('a lab that does not end is ended at its deadline', async t => {
  t.timeout(300_000);
  const hung = withLab({ deadlineSeconds: 1 }, () => new Promise(() => undefined));
  const { message } = await t.throwsAsync(hung);
  t.regex(message, /did not end within its 1 s/);
  takeConsole(message);
  t.deepEqual(leftoversOf(process.pid), []);
});

labTest(
  'a test process that is killed takes its lab along, and the next one sweeps its folder',
  async t => {
    t.timeout(300_000);
    const script = `import { withLab } from './lab.ts';
await withLab({}, () => new Promise(() => setInterval(() => undefined, 1000)));`;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', script], {
      cwd: fileURLToPath(new URL('.', import.meta.url)),
      stdio: 'ignore',
    });
    const { pid = 0 } = child;
    await eventually('a QEMU of the child', 120, () => (qemusOf(pid).length > 0 ? true : null));
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
    await eventually('its end', 20, () => (qemusOf(pid).length === 0 ? true : null));
    const swept = withLab({ deadlineSeconds: 1 }, async () => undefined);
    await t.throwsAsync(swept);
    t.deepEqual(leftoversOf(pid), []);
  },
);

/** What is left of a lab: processes that were given its folder, what is mounted there, and the folder. */
function leftovers(folder: string): string[] {
  const mounts = readFileSync('/proc/mounts', 'utf8').split('\n');
  return [
    ...processesWith(folder).map(tgid => `process ${tgid}`),
    ...mounts.filter(line => line.includes(folder)),
    ...(existsSync(folder) ? [folder] : []),
  ];
}

function leftoversOf(tgid: number): string[] {
  const folders = readdirSync('/tmp').filter(name => name.startsWith(`sculptor-lab-${tgid}-`));
  return [...folders, ...qemusOf(tgid).map(String)];
}

function qemusOf(tgid: number): number[] {
  return processesWith(`sculptor-lab-${tgid}-`).filter(each =>
    /^\S*qemu-system/.test(commandOf(each)),
  );
}

function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter(tgid => tgid > 0 && commandOf(tgid).includes(text));
}

function commandOf(tgid: number): string {
  try {
    return readFileSync(`/proc/${tgid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch (error) {
    // It has ended meanwhile.
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}

/** The text of the file that a failure names, which is removed. */
function takeConsole(message: string): string {
  const [, path = ''] = /its console is in (\S+),/.exec(message) ?? [];
  const text = readFileSync(path, 'utf8');
  rmSync(path);
  return text;
}
