import test from 'ava';
import { addonNeeds, type FrugalPart, loadAddonFor } from '../../src/cli/addon.ts';
import { configSchema } from '../../src/contract/config.ts';
import { KernelInterfaceError } from '../../src/contract/errors.ts';
import { loadProbe, type Native } from '../../src/linux/native.ts';

const configOf = (values: object) => configSchema.parse(values);
const byBpftrace = (agent: object = {}, more: object = {}) =>
  configOf({ agent: { driver: 'bpftrace', ...agent }, ...more });
const lack = new KernelInterfaceError('NATIVE_MISSING', 'sculptor.node: not built\n  run that');
const absent = (): Native => {
  throw lack;
};

const needs = (part: FrugalPart, config: ReturnType<typeof configOf>) =>
  addonNeeds(part, config).map(need => need.split(/[ ,:]/)[0]);

test('the agent needs the addon for libbpf, vsock and unix sockets of guests, and for users beside root; the engine for users', t => {
  const users = { sockets: { allowUsers: ['root', 4711] } };
  const unix = [{ path: '/run/guest.sock', instance: '/a' }];
  const tcp = { host: '::1', port: 4000, guests: [{ address: '::2', instance: '/b' }] };
  t.deepEqual(needs('agent', configOf({})), ['agent.driver']);
  t.deepEqual(needs('agent', byBpftrace()), []);
  t.deepEqual(needs('agent', byBpftrace({ endpoint: 'vsock://2:4000' })), ['agent.endpoint']);
  t.deepEqual(needs('agent', byBpftrace({ gate: { tcp } })), []);
  t.deepEqual(needs('agent', byBpftrace({ gate: { unix, vsock: { port: 4000 } } }, users)), [
    'agent.gate.vsock',
    'agent.gate.unix',
    'sockets.allowUsers',
  ]);
  t.deepEqual(needs('engine', configOf({})), []);
  t.deepEqual(needs('engine', byBpftrace({ gate: { unix } }, users)), ['sockets.allowUsers']);
});

test('a part that needs it is refused with what for', t => {
  const error = t.throws(() => loadAddonFor('agent', configOf({}), () => undefined, absent), {
    instanceOf: KernelInterfaceError,
    code: 'NATIVE_MISSING',
  });
  t.regex(
    error.message,
    /^sculptor\.node: not built\n {2}run that\n {2}it is needed for agent\.driver: libbpf \(bpftrace does/,
  );
});

test('one that does not runs without, and says so; whatever then asks the addon is told why not', t => {
  const said: string[] = [];
  const say = (text: string) => void said.push(text);
  const { native, peerUid } = loadAddonFor('agent', byBpftrace(), say, absent);
  t.is(peerUid, null);
  t.is(said.length, 1);
  t.regex(said[0] ?? '', /^runs without the native addon \(sculptor\.node: not built\)/);
  const refused = { code: 'NATIVE_MISSING', message: 'sculptor.node: not built' };
  t.throws(() => native.peerCredentials(0), refused);
  t.throws(() => native.openFolderWatch([]), refused);
  // Before its object file, which is not there either.
  t.throws(() => loadProbe(native, 'none'), refused);
});

test('where it is there it is asked who connects, and nothing is said', t => {
  const native = { peerCredentials: (fd: number) => ({ pid: 1, uid: 1000 + fd, gid: 1 }) };
  const said: string[] = [];
  const addon = loadAddonFor(
    'agent',
    byBpftrace(),
    text => said.push(text),
    () => native as unknown as Native,
  );
  t.is(addon.peerUid?.(7), 1007);
  t.deepEqual(said, []);
});

test('a fault of another kind is no lack of the addon', t => {
  const broken = () => {
    throw new TypeError('a defect');
  };
  t.throws(() => loadAddonFor('engine', configOf({}), () => undefined, broken), {
    message: 'a defect',
  });
});
