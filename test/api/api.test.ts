import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import * as z from 'zod';
import { requestApi } from '../../src/api/client.ts';
import { type ApiOptions, type ApiRoute, startApi } from '../../src/api/server.ts';
import { ConfigError, ProtocolError } from '../../src/contract/errors.ts';
import { listenUnix } from '../../src/otlp/unix-socket.ts';
import { ownUid, socketFolder, until } from '../support/sockets.ts';

const routes: ApiRoute[] = [
  { method: 'GET', path: '/status', run: ({ query }) => ({ ok: true, since: query.get('since') }) },
  { method: 'POST', path: '/actions/:id/approve', run: ({ params }) => params },
  {
    method: 'PUT',
    path: '/mode',
    body: z.strictObject({ mode: z.enum(['off', 'observe']) }),
    run: ({ body }) => body,
  },
  {
    method: 'POST',
    path: '/refuse',
    run: async () => {
      throw new ConfigError('CONFIG_REFUSED', 'there is no action x to approve');
    },
  },
  {
    method: 'POST',
    path: '/malformed',
    run: () => {
      throw new ProtocolError('EVENT_INVALID', 'bad');
    },
  },
  {
    method: 'POST',
    path: '/bug',
    run: () => {
      throw new Error('a bug');
    },
  },
  { method: 'POST', path: '/nothing', run: () => undefined },
];

async function start(t: ExecutionContext, options: Partial<ApiOptions> = {}) {
  const socket = join(socketFolder(t), 'api.sock');
  const api = await startApi({
    socket,
    allowUids: [],
    peerUid: ownUid,
    listen: listenUnix,
    routes,
    ...options,
  });
  t.teardown(() => api.stop());
  return { socket, api };
}

const any = { schema: z.unknown() };

test('a route answers JSON', async t => {
  const { socket } = await start(t);
  const schema = z.strictObject({ ok: z.boolean(), since: z.string() });
  t.deepEqual(await requestApi(socket, 'GET', '/status?since=5', { schema }), {
    ok: true,
    since: '5',
  });
});

test('who asks while a part is starting is answered when it runs', async t => {
  const starting = Promise.withResolvers<readonly ApiRoute[]>();
  const { socket } = await start(t, { routes: starting.promise });
  let isAnswered = false;
  const asked = requestApi(socket, 'GET', '/status', any).finally(() => {
    isAnswered = true;
  });
  // A turn of the same loop as the other one's question, and behind it.
  await new Promise<void>(resolve => createConnection(socket).once('connect', resolve).end());
  t.false(isAnswered);
  starting.resolve(routes);
  t.deepEqual(await asked, { ok: true, since: null });
});

test('segments of the path and a body reach the route', async t => {
  const { socket } = await start(t);
  t.deepEqual(await requestApi(socket, 'POST', '/actions/a%2Fb/approve', any), { id: 'a/b' });
  const body = { mode: 'observe' };
  t.deepEqual(await requestApi(socket, 'PUT', '/mode', { ...any, body }), body);
  t.is(await requestApi(socket, 'POST', '/nothing', any), null);
});

const refused = test.macro(
  async (
    t,
    method: 'GET' | 'POST' | 'PUT',
    path: string,
    body: unknown,
    status: number,
    wanted: RegExp,
  ) => {
    const { socket } = await start(t);
    const error = await t.throwsAsync(() => requestApi(socket, method, path, { ...any, body }), {
      instanceOf: ConfigError,
      code: 'CONFIG_REFUSED',
      message: wanted,
    });
    t.is((error as ConfigError).context['status'], status);
  },
);
test(
  'a path that is unknown is 404',
  refused,
  'GET',
  '/none',
  undefined,
  404,
  /\/none: no such path/,
);
test(
  'a method that is wrong is 405 and names the right one',
  refused,
  'GET',
  '/mode',
  undefined,
  405,
  /wanted PUT, got GET/,
);
test(
  'a body with a wrong field is 400 and names it',
  refused,
  'PUT',
  '/mode',
  { mode: 'x' },
  400,
  /^mode: /,
);
test(
  'a body with an unknown field is 400',
  refused,
  'PUT',
  '/mode',
  { mode: 'off', more: 1 },
  400,
  /more/,
);
test(
  'a body where none is wanted is 400',
  refused,
  'GET',
  '/status',
  { a: 1 },
  400,
  /wanted no body/,
);
test('a body that is missing is 400', refused, 'PUT', '/mode', undefined, 400, /body/);
test(
  'a body that is too large is 413',
  refused,
  'PUT',
  '/mode',
  'x'.repeat(2_000_000),
  413,
  /1048576/,
);
test(
  'what a part refuses is 409 with its own message',
  refused,
  'POST',
  '/refuse',
  undefined,
  409,
  /no action x/,
);
test(
  'what is malformed is 400 with its own code',
  refused,
  'POST',
  '/malformed',
  undefined,
  400,
  /^EVENT_INVALID: bad$/,
);
test(
  'a route that fails is 500 and the API goes on',
  refused,
  'POST',
  '/bug',
  undefined,
  500,
  /^INTERNAL: a bug$/,
);

test('a body that is no JSON is 400', async t => {
  const { socket } = await start(t);
  const raw = createConnection(socket);
  raw.end('PUT /mode HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\n{');
  const [answer] = await once(raw, 'data');
  t.regex(String(answer), /^HTTP\/1\.1 400 [\s\S]*not JSON/);
});

test('a path that is no URL is an answer, not a crash', async t => {
  const { socket } = await start(t);
  for (const path of ['//', '/%zz', '*', 'http://[', '/actions/%zz/approve']) {
    const raw = createConnection(socket);
    raw.end(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    const [answer] = await once(raw, 'data');
    t.regex(String(answer), /^HTTP\/1\.1 (400|404|405) /, path);
  }
});

test('an answer that is not what was wanted is refused by the client', async t => {
  const { socket } = await start(t);
  const schema = z.strictObject({ ok: z.string() });
  await t.throwsAsync(() => requestApi(socket, 'GET', '/status', { schema }), {
    code: 'CONFIG_REFUSED',
    message: /ok/,
  });
});

test('a part that does not run is named with the command that would start it', async t => {
  const socket = join(socketFolder(t), 'none.sock');
  const startedBy = 'sculpt engine';
  await t.throwsAsync(() => requestApi(socket, 'GET', '/status', { ...any, startedBy }), {
    instanceOf: ConfigError,
    code: 'CONFIG_NOT_RUNNING',
    message: new RegExp(`${socket}: .*\`sculpt engine\` starts it`),
  });
});

test('a user that is not on the list is told so', async t => {
  const refused: string[] = [];
  const { socket, api } = await start(t, {
    peerUid: () => 4711,
    refused: why => refused.push(why),
  });
  await t.throwsAsync(() => requestApi(socket, 'GET', '/status', any), {
    code: 'CONFIG_REFUSED',
    message: /allowUsers/,
  });
  t.is(api.refusedPeers(), 1);
  t.deepEqual(refused, ['peer']);
});

test('a part that does not answer in time is an error', async t => {
  const { socket } = await start(t, {
    routes: [{ method: 'GET', path: '/slow', run: () => new Promise(() => undefined) }],
  });
  await t.throwsAsync(() => requestApi(socket, 'GET', '/slow', { ...any, timeoutSeconds: 0.1 }), {
    code: 'CONFIG_REFUSED',
    message: /slow: no answer within 0\.1 s/,
  });
});

test('it stops with connections open, and its socket is gone', async t => {
  const { socket, api } = await start(t);
  const idle = createConnection(socket).resume();
  await once(idle, 'connect');
  await api.stop();
  t.false(existsSync(socket));
});

for (const [what, sent] of [
  ['half a request', 'PUT /mode HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n'],
  ['half a header', 'GET /status HT'],
  ['nothing', ''],
] as const)
  test(`who sends ${what} is cut off, and one that waits for a slow answer is not`, async t => {
    const slow: ApiRoute = {
      method: 'GET',
      path: '/slow',
      run: () => new Promise(resolve => setTimeout(resolve, 1500, 'done')),
    };
    const { socket } = await start(t, { requestTimeoutMs: 400, routes: [...routes, slow] });
    const held = createConnection(socket).resume();
    held.on('error', () => undefined).write(sent);
    const answer = requestApi(socket, 'GET', '/slow', any);
    await once(held, 'close');
    t.is(await answer, 'done');
  });

/** A route with an answer of so many bytes, which counts how often it is asked. To make it takes this process long enough to hold up others. */
function large(bytes: number) {
  const asked = { times: 0 };
  const run = () => {
    asked.times += 1;
    return 'x'.repeat(bytes);
  };
  return { asked, routes: [...routes, { method: 'GET', path: '/large', run } as const] };
}

/** Asks for it so often, and reads nothing. */
async function askOnly(t: ExecutionContext, socket: string, times = 1) {
  const held = createConnection(socket);
  t.teardown(() => held.destroy());
  held.on('error', () => undefined);
  await once(held, 'connect');
  held.write('GET /large HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(times));
  return held;
}

test.serial('of requests that come at once on one connection the first is answered', async t => {
  const { asked, routes } = large(1_000_000);
  const { socket } = await start(t, { routes });
  const held = await askOnly(t, socket, 100);
  held.resume();
  await once(held, 'close');
  t.is(asked.times, 1);
});

test.serial('who does not take an answer is cut off', async t => {
  const { routes } = large(4_000_000);
  const { socket } = await start(t, { routes, requestTimeoutMs: 200 });
  const held = await askOnly(t, socket);
  await new Promise(resolve => setTimeout(resolve, 600));
  held.resume();
  await once(held, 'close');
  t.true(held.bytesRead < 4_000_000, `${held.bytesRead}`);
});

test.serial('answers that nobody takes are bounded together', async t => {
  const { asked, routes } = large(40_000_000);
  const { socket } = await start(t, { routes });
  const held = await askOnly(t, socket);
  await until(() => asked.times === 1);
  await t.throwsAsync(() => requestApi(socket, 'GET', '/large', any), {
    message: /too many answers wait to be taken/,
  });
  held.destroy();
  await once(held, 'close');
  t.is(String(await requestApi(socket, 'GET', '/large', any)).length, 40_000_000);
});

test.serial('who goes before the answer is there leaves nothing behind', async t => {
  let release: () => void = () => undefined;
  const gone = new Promise<void>(resolve => {
    release = resolve;
  });
  let waits = 0;
  const run = async () => {
    waits += 1;
    await gone;
    return 'x'.repeat(40_000_000);
  };
  const { socket } = await start(t, { routes: [{ method: 'GET', path: '/large', run }] });
  const held = await Promise.all([askOnly(t, socket), askOnly(t, socket)]);
  await until(() => waits === 2);
  for (const one of held) one.destroy();
  await new Promise(resolve => setTimeout(resolve, 50));
  release();
  t.is(String(await requestApi(socket, 'GET', '/large', any)).length, 40_000_000);
});
