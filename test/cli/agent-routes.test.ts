import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import * as z from 'zod';
import { requestApi } from '../../src/api/client.ts';
import { startApi } from '../../src/api/server.ts';
import { agentRoutes } from '../../src/cli/routes.ts';
import { agentSettingsSchema } from '../../src/contract/agent-settings.ts';
import { changeSettings } from '../../src/contract/change-settings.ts';
import { type Profile, profileSchema } from '../../src/contract/profile.ts';
import { listenUnix } from '../../src/otlp/unix-socket.ts';
import { ownUid, socketFolder } from '../support/sockets.ts';

const profile: Profile = {
  hostId: 'h',
  instance: { id: '/machine/a', kind: 'cgroup', name: 'a' },
  time: 1,
  windowSeconds: 10,
  series: [],
};

async function serve(t: ExecutionContext) {
  let settings = agentSettingsSchema.parse({});
  const socket = join(socketFolder(t), 'agent-api.sock');
  const routes = agentRoutes({
    status: () => t.fail() as never,
    settings: () => settings,
    change: change => {
      settings = changeSettings(settings, change);
      return settings;
    },
    profiles: { all: () => [profile], of: id => (id === '/machine/a' ? profile : null) },
  });
  const api = await startApi({
    socket,
    allowUids: [ownUid()],
    peerUid: ownUid,
    listen: listenUnix,
    routes,
  });
  t.teardown(api.stop);
  return socket;
}

test('settings are shown, changed in part, and refused with what was wanted', async t => {
  const socket = await serve(t);
  const put = (body: unknown) =>
    requestApi(socket, 'PUT', '/settings', { body, schema: agentSettingsSchema });
  t.is((await put({ profile: 'minimal', hotTasks: 3 })).hotTasks, 3);
  const shown = await requestApi(socket, 'GET', '/settings', { schema: agentSettingsSchema });
  t.is(shown.profile, 'minimal');
  t.is(shown.detailIntervalSeconds, 10);
  await t.throwsAsync(put({ maxInstances: 99 }), { message: /agent\.maxInstances cannot change/ });
  await t.throwsAsync(put({ hotTasks: -1, profile: 'full' }), { message: /hotTasks: got -1/ });
  await t.throwsAsync(put(['hotTasks']), { message: /expected record/ });
  const after = await requestApi(socket, 'GET', '/settings', { schema: agentSettingsSchema });
  t.deepEqual(after, shown, 'what was refused changed nothing');
});

test('profiles are asked for together, or by the id of an instance', async t => {
  const socket = await serve(t);
  const all = await requestApi(socket, 'GET', '/profiles', { schema: z.array(profileSchema) });
  t.deepEqual(all, [profile]);
  const one = (id: string) =>
    requestApi(socket, 'GET', `/profiles/${encodeURIComponent(id)}`, { schema: profileSchema });
  t.deepEqual(await one('/machine/a'), profile);
  await t.throwsAsync(one('/machine/b'), { message: /\/machine\/b: no instance/ });
});
