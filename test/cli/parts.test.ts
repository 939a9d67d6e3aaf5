import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { createFrugalContext, runAgent } from '../../src/cli/parts.ts';
import { inRunDir } from '../../src/cli/run-dir.ts';
import { configSchema } from '../../src/contract/config.ts';
import { KernelInterfaceError } from '../../src/contract/errors.ts';
import { absentNative } from '../../src/linux/native.ts';
import { listenUnix } from '../../src/otlp/unix-socket.ts';
import { needs } from '../support/needs.ts';
import { socketFolder } from '../support/sockets.ts';

const parts = new URL('../../src/cli/parts.ts', import.meta.url).pathname;

/** Ends while a thread of Node's opens a pipe that nobody ever writes to. */
const ending = (pipe: string) => `
  import { open } from 'node:fs';
  import { createContext } from '${parts}';
  createContext({ config: {}, say: () => undefined });
  open('${pipe}', 'r', () => undefined);
  process.exit(3);
`;

needs('addon')('no part is kept from ending by a thread that waits for somebody else', t => {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-parts-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const { status, signal, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', ending(pipe)],
    { encoding: 'utf8', timeout: 30_000, killSignal: 'SIGKILL' },
  );
  t.deepEqual({ status, signal, stderr }, { status: 3, signal: null, stderr: '' });
});

test('a daemon warns of a temporality in its environment that there is not', t => {
  const said: string[] = [];
  process.env['OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE'] = 'detla';
  createFrugalContext('engine', {
    config: configSchema.parse({}),
    say: (level, text) => said.push(`${level}: ${text}`),
  });
  t.is(said.filter(line => /^warn: OTEL_.*"detla"/.test(line)).length, 1);
});

test('a second agent of the same configuration is refused before it has asked the kernel anything', async t => {
  const config = inRunDir(configSchema.parse({}), socketFolder(t));
  const first = await listenUnix({
    path: config.agent.apiSocket,
    allowUids: [],
    peerUid: null,
    accept: () => undefined,
    refused: why => t.fail(why),
  });
  t.teardown(first.close);
  const native = absentNative(new KernelInterfaceError('NATIVE_MISSING', 'it was asked'));
  const say = (_: string, text: string) => t.fail(text);
  await t.throwsAsync(() => runAgent({ config, native, peerUid: null, hostId: 'host', say }), {
    code: 'CONFIG_SOCKET',
    message: /agent-api\.sock: a running part listens on it already/,
  });
});
