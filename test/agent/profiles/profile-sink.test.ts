import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { openProfileSink } from '../../../src/agent/profiles/profile-sink.ts';
import { ConfigError } from '../../../src/contract/errors.ts';
import type { Profile } from '../../../src/contract/profile.ts';
import { realTime, socketFolder, until } from '../../support/sockets.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const profile = (name: string): Profile => ({
  hostId: 'h',
  instance: { id: `/${name}`, kind: 'cgroup', name },
  time: 1,
  windowSeconds: 10,
  series: [],
});
const quietly = () => undefined;
const readOnly = constants.O_RDONLY | constants.O_NONBLOCK;
const total = (lost: Readonly<Record<string, number>>) =>
  Object.values(lost).reduce((a, b) => a + b, 0);

test('a file is appended to, one line a profile', async t => {
  const path = join(socketFolder(t), 'profiles.jsonl');
  writeFileSync(path, 'before\n');
  const sink = openProfileSink(path, realTime, quietly);
  sink.write([profile('a'), profile('b')]);
  await until(() => sink.written() === 2);
  sink.write([]);
  sink.write([profile('c')]);
  await sink.stop();
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  t.deepEqual(
    lines.slice(1).map(line => JSON.parse(line).instance.name),
    ['a', 'b', 'c'],
  );
  t.is(lines[0], 'before');
  t.is(total(sink.lost()), 0);
});

test('a path that cannot be opened, and a pipe that nobody reads, are refused at the start', t => {
  const folder = socketFolder(t);
  execFileSync('mkfifo', [join(folder, 'pipe')]);
  for (const [path, why] of [
    ['absent/profiles', /absent\/profiles: wanted .* got ENOENT/],
    ['.', /got EISDIR/],
    ['pipe', /a pipe that nobody reads/],
  ] as const) {
    const error = t.throws(() => openProfileSink(join(folder, path), realTime, quietly), {
      instanceOf: ConfigError,
      message: why,
    });
    t.is(error?.code, 'CONFIG_OUTPUT');
  }
});

test('standard output is written to also where it is a socket, as under systemd', async t => {
  const program = `
    import { fstatSync } from 'node:fs';
    import { openProfileSink } from '${new URL('../../../src/agent/profiles/profile-sink.ts', import.meta.url).href}';
    import { realClock } from '${new URL('../../../src/cli/clock.ts', import.meta.url).href}';
    const sink = openProfileSink('-', realClock, (_, text) => process.stderr.write(text));
    const instance = { id: '/a', kind: 'cgroup', name: 'a'.repeat(1000) };
    const profile = { hostId: 'h', instance, time: 1, windowSeconds: 10, series: [] };
    sink.write(Array.from({ length: 2000 }, () => profile));
    await sink.stop();
    process.stderr.write(JSON.stringify([fstatSync(1).isSocket(), sink.written(), sink.lost()]));
  `;
  // What spawn calls a pipe is a socket.
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr.on('data', data => {
    said += data;
  });
  const out = (await child.stdout.toArray()).join('').trimEnd().split('\n');
  await until(() => said.endsWith(']'));
  t.deepEqual(JSON.parse(said), [true, 2000, { busy: 0, failed: 0 }]);
  t.is(out.length, 2000);
  t.is(JSON.parse(out.at(-1) ?? '').instance.id, '/a');
});

test('a full disk is counted and said, and the sink goes on', async t => {
  const said: string[] = [];
  const sink = openProfileSink('/dev/full', realTime, (_, text) => void said.push(text));
  sink.write([profile('a'), profile('b')]);
  await until(() => sink.lost().failed === 2);
  for (const failed of [3, 4]) {
    sink.write([profile('c')]);
    await until(() => sink.lost().failed === failed);
  }
  t.is(sink.written(), 0);
  t.is(said.length, 1, 'not with each reading');
  t.regex(said[0] ?? '', /profiles cannot be written to \/dev\/full \(2 lost so far\): ENOSPC/);
  await sink.stop();
});

test('a reader that is slow holds up nothing: what comes meanwhile is counted; one that goes is said', async t => {
  const path = join(socketFolder(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, readOnly);
  const said: string[] = [];
  const sink = openProfileSink(path, realTime, (_, text) => void said.push(text));
  // More than a pipe holds.
  const many = Array.from({ length: 2000 }, (_, i) => profile(`instance-${i}`));
  sink.write(many);
  sink.write([profile('meanwhile')]);
  t.is(sink.lost().busy, 1);
  const buffer = Buffer.alloc(1 << 16);
  let read = '';
  await until(() => {
    try {
      read += buffer.toString('utf8', 0, readSync(reader, buffer));
    } catch (error) {
      t.is((error as { code?: string }).code, 'EAGAIN');
    }
    return read.split('\n').length === many.length + 1;
  });
  await until(() => sink.written() === many.length);
  closeSync(reader);
  sink.write([profile('late')]);
  await until(() => sink.lost().failed === 1);
  t.regex(said.join(), /EPIPE/);
  await sink.stop();
});

test('of what readers left in the middle the whole lines are written, and what comes later is on lines of its own', async t => {
  const path = join(socketFolder(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const first = openSync(path, readOnly);
  const said: string[] = [];
  const sink = openProfileSink(path, realTime, (_, text) => void said.push(text));
  const many = Array.from({ length: 2000 }, (_, i) => profile(`instance-${i}`));
  const buffer = Buffer.alloc(10_000);
  let read = '';
  const readSome = (reader: number): void => {
    try {
      read += buffer.toString('utf8', 0, readSync(reader, buffer));
    } catch (error) {
      t.is((error as { code?: string }).code, 'EAGAIN');
    }
  };
  const leave = async (reader: number) => {
    const lost = sink.lost().failed;
    const enough = read.length + 70_000;
    sink.write(many);
    await until(() => {
      readSome(reader);
      return read.length >= enough;
    });
    closeSync(reader);
    await until(() => sink.lost().failed > lost);
  };
  await leave(first);
  await leave(openSync(path, readOnly));
  t.is(said.length, 1);
  const readAll = async (reader: number, name: string) => {
    const before = sink.written();
    sink.write([profile(name)]);
    await until(() => {
      readSome(reader);
      return sink.written() === before + 1;
    });
  };
  const comes = openSync(path, readOnly);
  await readAll(comes, 'late');
  await readAll(comes, 'later');
  closeSync(comes);
  const lost = sink.lost().failed;
  sink.write([profile('nobody is there')]);
  await until(() => sink.lost().failed === lost + 1);
  t.is(said.length, 2, 'it had worked again');
  const last = openSync(path, readOnly);
  t.teardown(() => closeSync(last));
  await readAll(last, 'last');
  await sink.stop();
  read += readFileSync(last, 'utf8');
  const names = read.split('\n').flatMap(line => {
    try {
      return JSON.parse(line).instance.name;
    } catch {
      return [];
    }
  });
  t.deepEqual(names.slice(-3), ['late', 'later', 'last']);
  t.notRegex(read, /\n\n/);
  t.is(sink.written(), names.length);
  t.is(sink.written() + sink.lost().failed, 2 * many.length + 4);
});

test('a reader that takes nothing is waited for, for five seconds, and for no longer than a moment at the stop', async t => {
  const path = join(socketFolder(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, readOnly);
  t.teardown(() => closeSync(reader));
  const clock = steppedClock();
  const sink = openProfileSink(path, clock, quietly);
  const many = Array.from({ length: 2000 }, (_, i) => profile(`instance-${i}`));
  const secondsUntil = async (holds: () => boolean) => {
    const from = clock.monotonicSeconds();
    await until(() => {
      if (!holds()) clock.step(0.05);
      return holds();
    });
    return clock.monotonicSeconds() - from;
  };
  sink.write(many);
  const waited = await secondsUntil(() => sink.lost().failed > 0);
  t.true(waited >= 5 && waited < 10, `${waited} s`);
  sink.write(many);
  let stopped = false;
  void sink.stop().then(() => {
    stopped = true;
  });
  const left = await secondsUntil(() => stopped);
  t.true(left < 1, `${left} s`);
});
