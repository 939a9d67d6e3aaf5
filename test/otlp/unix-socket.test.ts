import { once } from 'node:events';
import { existsSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ConfigError } from '../../src/contract/errors.ts';
import { listenUnix, notAdmittedByMode } from '../../src/otlp/unix-socket.ts';
import { ownUid, socketFolder } from '../support/sockets.ts';

/** Listens where nobody can ask who connects; answers what a connection gets to read. */
async function listenAsOwn(t: ExecutionContext, folder: string, allowUids: number[]) {
  const path = join(folder, 'own.sock');
  const listener = await listenUnix({
    path,
    allowUids,
    peerUid: null,
    accept: socket => socket.end('served'),
    refused: why => t.fail(why),
  });
  t.teardown(listener.close);
  return path;
}

test('where nobody can ask who connects, the mode of the socket admits the own user and root alone', async t => {
  const path = await listenAsOwn(t, socketFolder(t), [0, ownUid()]);
  t.is(statSync(path).mode & 0o777, 0o600);
  const read = new Promise<string>(resolve =>
    connect(path).once('data', data => resolve(`${data}`)),
  );
  t.is(await read, 'served');
});

test('users whom the mode cannot admit are refused before anything listens', async t => {
  const folder = socketFolder(t);
  const stranger = ownUid() + 4711;
  t.deepEqual(notAdmittedByMode([0, stranger, ownUid()]), [stranger]);
  await t.throwsAsync(() => listenAsOwn(t, folder, [0, stranger]), {
    instanceOf: ConfigError,
    code: 'CONFIG_SOCKET',
    message: new RegExp(`own\\.sock: user ${stranger} cannot be admitted`),
  });
  t.false(existsSync(join(folder, 'own.sock')));
});

test('a path that leads through a file is said to be where nobody can listen', async t => {
  const folder = socketFolder(t);
  writeFileSync(join(folder, 'file'), '');
  await t.throwsAsync(() => listenAsOwn(t, join(folder, 'file'), []), {
    instanceOf: ConfigError,
    code: 'CONFIG_SOCKET',
    message: /file\/own\.sock: cannot listen: ENOTDIR/,
  });
});

test('the socket of others than root and the own user lets everybody ask, and admits those it is for', async t => {
  const folder = socketFolder(t);
  const stranger = ownUid() + 4711;
  const listen = async (name: string, allowUids: number[], peer: number) => {
    const path = join(folder, name);
    const refused: string[] = [];
    const listener = await listenUnix({
      path,
      allowUids,
      peerUid: () => peer,
      accept: socket => socket.end('served'),
      refused: why => refused.push(why),
    });
    t.teardown(listener.close);
    const answer = await new Promise<string>(resolve => {
      let got = '';
      connect(path)
        .on('data', data => {
          got += data;
        })
        .on('error', () => undefined)
        .once('close', () => resolve(got));
    });
    return { mode: statSync(path).mode & 0o777, answer, refused };
  };
  t.deepEqual(await listen('a', [0, stranger], stranger), {
    mode: 0o666,
    answer: 'served',
    refused: [],
  });
  t.deepEqual(await listen('b', [0, stranger], stranger + 1), {
    mode: 0o666,
    answer: '',
    refused: ['peer'],
  });
  t.is((await listen('c', [0], ownUid())).mode, 0o660);
});

test('of two that find a socket file that nobody listens on, one listens', async t => {
  const path = join(socketFolder(t), 'left.sock');
  // libuv removes a socket by the name that it was made under.
  const dead = createServer().listen(`${path}.tmp`);
  await once(dead, 'listening');
  renameSync(`${path}.tmp`, path);
  dead.close();
  const listen = () =>
    listenUnix({
      path,
      allowUids: [],
      peerUid: null,
      // The one that only looks who listens is gone by then.
      accept: socket => void socket.on('error', () => undefined).end('served'),
      refused: why => t.fail(why),
    });
  const both = await Promise.allSettled([listen(), listen()]);
  const listening = both.flatMap(one => (one.status === 'fulfilled' ? one.value : []));
  for (const { close } of listening) t.teardown(close);
  t.is(listening.length, 1);
  const refusal = both.find(one => one.status === 'rejected');
  t.regex(refusal?.reason.message, /left\.sock: a running part listens on it already/);
  const read = new Promise<string>(resolve =>
    connect(path).once('data', data => resolve(`${data}`)),
  );
  t.is(await read, 'served');
});
