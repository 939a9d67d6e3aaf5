import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { isKvmLoaded } from '../../src/agent/probes/kvm.ts';
import type { Check } from '../../src/cli/doctor/check.ts';
import { parseEvent } from '../../src/contract/events.ts';
import type { MetricPoint } from '../../src/contract/telemetry.ts';
import { beside, needs } from '../support/needs.ts';
import { startReceiver } from '../support/receiver.ts';
import { endChild, eventually } from '../support/scene.ts';
import { cpuRoot, endBoxes, makeBox, near, spin, startPinned } from '../support/sched-scene.ts';
import { coresOf } from '../support/told-agent.ts';

const alone = needs('root', 'btf', 'bpftrace', 'tracefs', 'cgroupV1Cpu');
const test = beside(alone);
const own = new URL('../../', import.meta.url).pathname;

/** The package as it is installed where no addon can be built, and no BPF program either. */
function install(t: ExecutionContext) {
  const root = mkdtempSync(`${tmpdir()}/sculptor-bare-`);
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  chmodSync(root, 0o755);
  for (const part of ['dist', 'bin', 'bpf', 'models', 'package.json'])
    cpSync(`${own}${part}`, `${root}/${part}`, { recursive: true });
  symlinkSync(`${own}node_modules`, `${root}/node_modules`);
  for (const folder of ['run', 'probes']) mkdirSync(`${root}/${folder}`);
  return {
    root,
    writeConfig: (name: string, settings: object): string => {
      const config = `${root}/${name}.yaml`;
      writeFileSync(config, JSON.stringify(settings));
      return config;
    },
    /** What the agent told of which instance, and whatever else it said. */
    receive: async () => {
      const { resources, events, stop } = await startReceiver(`${root}/run/otlp.sock`);
      return {
        events,
        pointsOf: (metric: string, instance?: string): MetricPoint[] =>
          resources
            .filter(({ resource }) => !instance || resource['sculptor.instance.id'] === instance)
            .flatMap(({ points }) => points.filter(point => point.metric === metric)),
        stop,
      };
    },
    /** Runs it to its end. */
    run: (...args: string[]) => execa(`${root}/bin/sculpt`, args, { reject: false }),
    /** `end`: the exit code that SIGTERM leads to. */
    start: (...args: string[]) => {
      const child = spawn(`${root}/bin/sculpt`, args, { stdio: ['ignore', 'ignore', 'pipe'] });
      t.teardown(() => endChild(child));
      let text = '';
      child.stderr?.on('data', chunk => {
        text += String(chunk);
      });
      const ended = new Promise<number | null>(resolve => child.once('close', resolve));
      const end = () => {
        child.kill('SIGTERM');
        return ended;
      };
      return { pid: child.pid ?? 0, said: () => text, end };
    },
  };
}

/** Processes that `pid` started, by what they are called. */
function childrenOf(pid: number, name: string): number[] {
  return readdirSync('/proc')
    .filter(one => /^\d+$/.test(one))
    .map(Number)
    .filter(one => {
      try {
        const [before = '', after = ''] = readFileSync(`/proc/${one}/stat`, 'utf8').split(') ');
        return before.endsWith(`(${name}`) && Number(after.split(' ')[1]) === pid;
      } catch {
        // It ended between the two.
        return false;
      }
    });
}

/** What connecting as another user comes to. */
function connectAs(uid: number, socket: string): string {
  const program = `require('node:net').connect(${JSON.stringify(socket)})
    .on('connect', () => { console.log('connected'); process.exit(); })
    .on('error', ({ code }) => console.log(code));`;
  const by = ['--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups'];
  return execFileSync('setpriv', [...by, process.execPath, '-e', program], {
    encoding: 'utf8',
  }).trim();
}

alone(
  'sculpt agent with driver: bpftrace needs no addon: it tells by scripts what its programs tell, cgroups and custom probes, and what it cannot',
  async t => {
    t.timeout(120_000);
    t.teardown(endBoxes);
    const { root, writeConfig, receive, run, start } = install(t);
    const page = readFileSync(`${own}docs/custom-probes.md`, 'utf8');
    writeFileSync(`${root}/probes/execs.bt`, /```c\n([\s\S]*?)```/.exec(page)?.[1] ?? '');
    const socket = `${root}/run/agent-api.sock`;
    const agent = {
      driver: 'bpftrace',
      endpoint: `unix://${root}/run/otlp.sock`,
      apiSocket: socket,
      detailIntervalSeconds: 2,
      placementIntervalSeconds: 2,
      customProbes: { directory: `${root}/probes` },
      outliers: { aboveSeconds: 0.001 },
    };
    const config = writeConfig('sculpt', { agent });
    const told = await receive();
    const box = makeBox();
    const id = box.folder.slice(cpuRoot.length);
    const status = async () => {
      const where = ['--config', config, '--run-dir', `${root}/run`];
      const { stdout } = await run('status', '--json', ...where);
      return JSON.parse(stdout).agent as {
        sources: Record<string, string>;
        customProbes: Record<string, string>;
      };
    };
    try {
      const { pid, said, end } = start('agent', '--config', config);
      await eventually('the custom probe runs', 30, () => /execs\.bt runs/.exec(said()));
      const scripts = ['faults', 'block', 'net', 'outliers'];
      await eventually('the sources count', 30, async () => {
        const { sources } = await status();
        return scripts.every(source => sources[source] === 'running') ? true : null;
      });
      for (let i = 0; i < 2; i += 1) await startPinned(box, 0, ...spin);
      box.spawn('sh', '-c', 'for i in $(seq 20); do /bin/true; done; sleep 60');
      // Each reading is up to 0.2 s old: of five seconds that is 4 %.
      await eventually('five seconds of series', 30, () =>
        told.pointsOf('container.cpu.time', id).length >= 8 ? true : null,
      );

      near(t, coresOf(told.pointsOf('container.cpu.time', id), 2), 1, 0.1, 'cores run');
      near(t, coresOf(told.pointsOf('sculptor.runqueue.wait', id), 2), 1, 0.1, 'cores waited');
      const { value } = told.pointsOf('sculptor.runqueue.latency', id).at(-1) ?? {};
      t.true(typeof value === 'object' && value.count > 100);
      const execs = told.pointsOf('my.process.execs', id);
      const ofTrue = execs.filter(({ attributes }) => Object.values(attributes).includes('true'));
      t.is(ofTrue.at(-1)?.value, 20);
      t.true(told.pointsOf('container.memory.usage').length > 0);
      t.true(told.pointsOf('sculptor.pressure.time').length > 0);
      t.true(
        told.events.some(
          event =>
            event.eventName === 'sculptor.placement' &&
            parseEvent('sculptor.placement', event).instance.id === id,
        ),
      );

      const { sources, customProbes } = await status();
      t.like(sources, {
        sched: 'running',
        memory: 'running',
        vdisks: 'running',
        custom: 'running',
      });
      t.deepEqual(customProbes, { 'execs.bt': 'running' });
      const available = (source: string) =>
        told
          .pointsOf('sculptor.agent.source.available')
          .findLast(({ attributes }) => attributes['sculptor.agent.source'] === source);
      for (const source of ['memory', ...scripts])
        t.like(available(source), { value: 1 }, `${source}: ${sources[source]}`);
      // Told of a real cgroup by a script: what its tasks started faulted.
      const faults = told
        .pointsOf('sculptor.memory.fault.latency', id)
        .findLast(({ attributes }) => Object.values(attributes).includes('minor'))?.value;
      t.true(typeof faults === 'object' && faults.count > 100, JSON.stringify(faults));

      t.is(statSync(socket).mode & 0o777, 0o600);
      t.is(connectAs(0, socket), 'connected');
      t.is(connectAs(64_905, socket), 'EACCES');

      const waits = told.events
        .filter(({ eventName }) => eventName === 'sculptor.outlier')
        .map(event => parseEvent('sculptor.outlier', event));
      t.true(
        waits.some(({ task, preemptor }) => task.instance === id && preemptor?.instance === id),
      );

      // The scheduler, the custom probe, and four of the sources, or five.
      const asked = childrenOf(pid, 'bpftrace');
      t.is(asked.length, isKvmLoaded('/sys') ? 7 : 6);
      t.is(await end(), 0);
      t.regex(said(), /runs without the native addon \(.*: not built\)/);
      t.regex(said(), /agent: stopping after SIGTERM/);
      t.deepEqual(
        asked.filter(one => existsSync(`/proc/${one}`)),
        [],
      );
      t.false(existsSync(socket));
    } finally {
      await told.stop();
    }
  },
);

test('with driver: libbpf it says what it lacks, and that bpftrace does without', async t => {
  t.timeout(60_000);
  const { root, writeConfig, run } = install(t);
  const agent = { apiSocket: `${root}/run/agent-api.sock` };
  const config = writeConfig('sculpt', { agent });
  const absent = await run('agent', '--config', config);
  t.is(absent.exitCode, 1);
  t.regex(absent.stderr, /NATIVE_MISSING: .*build\/sculptor\.node: not built\n {2}run "npm run/);
  t.regex(absent.stderr, /needed for agent\.driver: libbpf \(bpftrace does without/);
  mkdirSync(`${root}/build`);
  writeFileSync(`${root}/build/sculptor.node`, 'made for another machine');
  const foreign = await run('agent', '--config', config);
  t.is(foreign.exitCode, 1);
  t.regex(foreign.stderr, /NATIVE_MISSING: .*build\/sculptor\.node: .*(ELF|too short)/);
  t.false(existsSync(`${root}/run/agent-api.sock`));
});

test('sculpt engine needs no addon either: its sockets are its own', async t => {
  t.timeout(60_000);
  const { root, writeConfig, run, start } = install(t);
  t.is((await run('keys', 'init', '--dir', `${root}/keys`)).exitCode, 0);
  const config = writeConfig('sculpt', { engine: { privateKey: `${root}/keys/engine.key` } });
  const { said, end } = start('engine', '--config', config, '--run-dir', `${root}/run`);
  await eventually('it listens', 20, () => /listening on/.exec(said()));
  const api = `${root}/run/engine-api.sock`;
  await eventually('its API does', 5, () => (existsSync(api) ? true : null));
  for (const socket of [api, `${root}/run/engine.sock`]) {
    t.is(statSync(socket).mode & 0o777, 0o600);
    t.is(connectAs(0, socket), 'connected');
    t.is(connectAs(64_905, socket), 'EACCES');
  }
  t.is(await end(), 0);
});

test('doctor judges by the driver: the agent can run, the main job cannot', async t => {
  t.timeout(120_000);
  const { writeConfig, run } = install(t);
  const doctor = async (driver: string) => {
    const config = writeConfig(driver, { agent: { driver } });
    const { stdout, exitCode } = await run('doctor', '--json', '--config', config);
    const { checks } = JSON.parse(stdout) as { checks: Check[] };
    return { exitCode, of: (name: string) => checks.find(check => check.name === name) };
  };
  const [bpftrace, libbpf] = await Promise.all([doctor('bpftrace'), doctor('libbpf')]);
  t.is(bpftrace.exitCode, 0);
  t.like(bpftrace.of('addon, libbpf'), { state: 'missing', needed: false });
  t.like(bpftrace.of('source sched'), { state: 'works', needed: true });
  t.like(bpftrace.of('sculpt agent'), { state: 'works', needed: true });
  t.like(bpftrace.of('source memory'), { state: 'works' });
  t.like(bpftrace.of('source block'), { state: 'works' });

  t.is(libbpf.exitCode, 1);
  t.like(libbpf.of('addon, libbpf'), { state: 'missing', needed: true });
  t.like(libbpf.of('sculpt agent'), { state: 'missing' });
  t.like(libbpf.of('source block'), { state: 'missing', how: 'npm run setup' });
  t.like(libbpf.of('source sched'), { state: 'missing', needed: true, how: 'npm run setup' });
});
