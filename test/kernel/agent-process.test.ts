import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { needs } from '../support/needs.ts';
import { startReceiver } from '../support/receiver.ts';
import { endChild, eventually } from '../support/scene.ts';

const test = needs('root', 'btf', 'addon');
const sculpt = new URL('../../bin/sculpt', import.meta.url).pathname;

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
