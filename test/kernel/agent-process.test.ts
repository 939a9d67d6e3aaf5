import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { type Profile, profileSchema } from '../../src/contract/profile.ts';
import { needs } from '../support/needs.ts';
import { startReceiver } from '../support/receiver.ts';
import { endChild, eventually } from '../support/scene.ts';

const test = needs('root', 'btf', 'addon');
const sculpt = new URL('../../bin/sculpt', import.meta.url).pathname;

/** A series that the profile `minimal` leaves out. */
const onlyInDefault = 'sculptor.cpu.wakeups';

function startAgent(t: ExecutionContext, args: readonly string[]) {
  const child = spawn(sculpt, ['agent', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  t.teardown(() => endChild(child));
  let said = '';
  child.stderr.on('data', chunk => {
    said += String(chunk);
  });
  const ended = new Promise<unknown>(resolve => {
    child.once('close', (code, signal) => resolve(signal ?? code));
  });
  return { child, said: () => said, ended };
}

test('a running agent takes its file when that changes, and writes its profiles to where it was told', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-agent-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const config = join(folder, 'sculpt.yaml');
  const settings = (profile: string) =>
    `nice: null\nagent: { detailIntervalSeconds: 1, profile: ${profile} }\n`;
  writeFileSync(config, settings('minimal'));
  const receiver = await startReceiver(join(folder, 'pipeline.sock'));
  t.teardown(receiver.stop);
  const target = join(folder, 'profiles.jsonl');
  const args = ['--config', config, '--run-dir', folder, '--profile-to', target];
  const { child, said, ended } = startAgent(t, args);
  const ofRoot = () =>
    (existsSync(target) ? readFileSync(target, 'utf8') : '')
      .split('\n')
      .slice(0, -1)
      .map(line => profileSchema.parse(JSON.parse(line)))
      .filter(({ instance }) => instance.id === '/');
  const told = () => receiver.resources.flatMap(({ points }) => points);
  const has = ({ series }: Profile) => series.some(({ metric }) => metric === onlyInDefault);
  const first = await eventually('three of its profiles', 30, () => {
    const all = ofRoot();
    return all.length >= 3 ? all : null;
  });
  t.false(first.some(has));
  t.false(told().some(({ metric }) => metric === onlyInDefault));

  writeFileSync(config, settings('default'));
  const rich = await eventually('a profile with what the default has more', 30, () =>
    ofRoot().find(has),
  );
  const profiled = rich.series.find(({ metric }) => metric === onlyInDefault);
  // The same numbers, from one source.
  await eventually('the point of it', 10, () =>
    told().find(
      ({ metric, time, value }) =>
        metric === onlyInDefault &&
        Math.abs(time - rich.time) < 1e-3 &&
        profiled?.type === 'counter' &&
        value === profiled.total,
    ),
  );
  child.kill('SIGTERM');
  t.is(await ended, 0, said());
  t.true(readFileSync(target, 'utf8').endsWith('\n'), 'the last line is whole');
});

test('signals that other daemons take for something else end no agent, and a second agent is refused before it tells anything', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-agent-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const config = join(folder, 'sculpt.yaml');
  writeFileSync(config, 'nice: null\n');
  const args = ['--config', config, '--run-dir', folder];
  const receiver = await startReceiver(join(folder, 'pipeline.sock'));
  t.teardown(receiver.stop);

  const { child, said, ended } = startAgent(t, args);
  // It is about to load its programs.
  await eventually('its first line', 30, () => (/with CAP_BPF/.test(said()) ? true : null));
  child.kill('SIGHUP');
  child.kill('SIGUSR1');
  await eventually('its topology', 30, () => receiver.events[0]);

  const second = await execa(sculpt, ['agent', ...args], { reject: false });
  t.is(second.exitCode, 2);
  t.regex(second.stderr, /CONFIG_SOCKET: .*agent-api\.sock: a running part listens on it already$/);
  const topologies = receiver.events.filter(each => each.eventName === 'sculptor.topology');
  t.is(topologies.length, 1);

  child.kill('SIGUSR1');
  child.kill('SIGTERM');
  t.is(await ended, 0);
  t.notRegex(said(), /Debugger/);
});
