import { createServer } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { askQmp, isRefusal, parseCpus, parseQmpSocket } from '../../src/linux/qmp.ts';
import { socketFolder } from '../support/sockets.ts';

const limits = { timeoutSeconds: 5, maxBytes: 4096 };
const greeting = '{"QMP": {"version": {}, "capabilities": []}}\r\n';

/** Listens as a monitor that greets with `first`, and answers each command with what `answer` says. */
async function monitor(
  t: ExecutionContext,
  first: string,
  answer: (execute: string) => string = () => '',
): Promise<{ path: string; heard: string[]; given: unknown[] }> {
  const path = `${socketFolder(t)}/qmp.sock`;
  const heard: string[] = [];
  const given: unknown[] = [];
  const server = createServer(socket => {
    socket.on('error', () => undefined);
    socket.write(first);
    socket.on('data', chunk => {
      const message = JSON.parse(`${chunk}`) as { execute: string; arguments?: unknown };
      const { execute } = message;
      heard.push(execute);
      given.push(message.arguments);
      socket.write(answer(execute));
    });
  });
  await new Promise<void>(resolve => server.listen(path, resolve));
  t.teardown(() => server.close());
  return { path, heard, given };
}

const returning = (execute: string, value: string) =>
  `{"return": ${value}, "id": "${execute}"}\r\n`;

test('a monitor is greeted, asked once, and left; its events are passed over', async t => {
  const { path, heard } = await monitor(t, greeting, execute =>
    execute === 'qmp_capabilities'
      ? returning(execute, '{}')
      : `{"event": "RTC_CHANGE", "timestamp": {}}\r\n${returning(execute, '[1]')}`,
  );
  t.deepEqual(await askQmp(path, 'query-cpus-fast', limits), [1]);
  t.deepEqual(heard, ['qmp_capabilities', 'query-cpus-fast']);
});

test('a command is given its arguments, and no other is', async t => {
  const { path, given } = await monitor(t, greeting, execute => returning(execute, '{}'));
  await askQmp(path, 'calc-dirty-rate', limits, { 'calc-time': 1 });
  t.deepEqual(given, [undefined, { 'calc-time': 1 }]);
});

const isRefused = test.macro({
  exec: async (t, first: string, answer: string, message: RegExp) => {
    const { path, heard } = await monitor(t, first, () => answer);
    const asking = askQmp(path, 'query-cpus-fast', { ...limits, timeoutSeconds: 0.2 });
    const error = await t.throwsAsync(asking, { code: 'QMP_UNAVAILABLE', message });
    t.is(isRefusal(error), answer !== '');
    if (!first.includes('QMP')) t.deepEqual(heard, [], 'nothing is sent to what is no monitor');
  },
  title: title => `not answered: ${title}`,
});
test('a monitor that another client holds', isRefused, '', '', /no answer .* within 0.2 s/);
test('a socket of something else', isRefused, 'SSH-2.0\n', '', /is no QMP monitor: it said SSH/);
test('a flood', isRefused, 'x'.repeat(5000), '', /said more than 4096 bytes/);
test(
  'a refused command',
  isRefused,
  greeting,
  '{"error": {"class": "CommandNotFound", "desc": "no such command"}}\n',
  /refused query-cpus-fast: no such command/,
);

test('only who says that he listens is asked: another one, whose monitor it is, hears nothing', async t => {
  const { path, heard } = await monitor(t, greeting, execute => returning(execute, '{}'));
  await t.throwsAsync(askQmp(path, 'query-status', { ...limits, listener: process.pid + 1 }), {
    code: 'QMP_UNAVAILABLE',
    message: /process \d+ listens there, not the QEMU that names it/,
  });
  await new Promise(resolve => setTimeout(resolve, 50));
  t.deepEqual(heard, []);
  t.deepEqual(await askQmp(path, 'query-status', { ...limits, listener: process.pid }), {});
});

test('of what a monitor says at length the beginning is told', async t => {
  const { path } = await monitor(
    t,
    greeting,
    () => `{"error": {"class": "x", "desc": "${'x'.repeat(3000)}"}}\n`,
  );
  const error = await t.throwsAsync(askQmp(path, 'query-status', limits));
  t.true((error?.message.length ?? 0) < 600);
  const cpus = Array.from({ length: 4000 }, () => ({}));
  const { message } = t.throws(() => parseCpus(cpus), { code: 'QMP_UNAVAILABLE' });
  t.true(message.length < 600);
});

test('a socket that nobody listens on is said', async t => {
  await t.throwsAsync(askQmp(`${socketFolder(t)}/none`, 'query-status', limits), {
    code: 'QMP_UNAVAILABLE',
    message: /ENOENT/,
  });
});

test('the host thread of a vCPU is the outer thread-id', t => {
  const cpus = [
    { 'cpu-index': 0, 'thread-id': 4711, props: { 'thread-id': 0 } },
    { 'cpu-index': 1, 'thread-id': 4712, props: { 'thread-id': 1 } },
  ];
  t.deepEqual(
    [...parseCpus(cpus)],
    [
      [4711, 0],
      [4712, 1],
    ],
  );
  t.throws(() => parseCpus([{ 'cpu-index': 0 }]), { code: 'QMP_UNAVAILABLE' });
});

const isAt = test.macro({
  exec: (t, args: string, path: string | null) => {
    t.is(parseQmpSocket(['qemu-system-x86_64', ...args.split(' ')]), path);
  },
  title: (_, args) => `the QMP socket of ${args}`,
});
test(isAt, '-qmp unix:/run/a.qmp,server=on,wait=off', '/run/a.qmp');
test(isAt, '--qmp-pretty unix:vm,,1.qmp,server,nowait', 'vm,1.qmp');
test(
  isAt,
  '-chardev socket,id=m,path=/run/b.qmp,server=on -mon chardev=m,mode=control',
  '/run/b.qmp',
);
test(isAt, '-mon m,mode=control -chardev socket,path=/run/b.qmp,id=m', '/run/b.qmp');
test(isAt, '-chardev socket,id=m,path=/run/hmp -mon chardev=m,mode=readline', null);
test(isAt, '-qmp tcp:localhost:4444,server=on', null);
test(
  isAt,
  '-chardev socket,id=charmonitor,fd=31,server=on,wait=off -mon chardev=charmonitor,id=monitor,mode=control',
  null,
);
test(
  isAt,
  '-chardev socket,id=charmonitor,path=/var/lib/libvirt/qemu/domain-1-a/monitor.sock -mon chardev=charmonitor,mode=control -qmp unix:/run/own.qmp',
  '/run/own.qmp',
);
// Who gives a domain one more may put it where its QEMU may write.
test(
  isAt,
  '-chardev socket,id=charmonitor,fd=31,server=on -mon chardev=charmonitor,mode=control -qmp unix:/var/lib/libvirt/qemu/a.qmp',
  '/var/lib/libvirt/qemu/a.qmp',
);
test(isAt, '-qmp', null);
