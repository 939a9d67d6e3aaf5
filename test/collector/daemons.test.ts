import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import * as z from 'zod';
import { needs } from '../support/needs.ts';
import { endChild, eventually, type Scene, stageScene } from '../support/scene.ts';
import { buildCollector, freePort, startCollector } from './support/collector.ts';

const sculpt = new URL('../../bin/sculpt', import.meta.url).pathname;

/** What stands between the daemons: switches the mode, and ends. `engineOut`: the socket that takes what the engine says. */
type Middle = { setMode: (mode: string) => void; child: ChildProcess };
type MiddleKind = { engineOut: string; start: (run: string) => Promise<Middle> };

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu');

test('three daemons close the loop over sockets, with the embedded pipeline between them', loop, {
  engineOut: 'pipeline.sock',
  start: startPipelineProcess,
});

const collector = buildCollector();
const collectorTest = collector.binary === null ? test.skip : test;
if (collector.binary === null) console.error(`# skipped: no collector: ${collector.why}`);
collectorTest(
  'three daemons close the loop through a real collector, whose file is the switch',
  loop,
  {
    engineOut: 'engine-out.sock',
    start: startRealCollector,
  },
);

async function loop(t: ExecutionContext, kind: MiddleKind): Promise<void> {
  t.timeout(180_000);
  const run = mkdtempSync(join(tmpdir(), 'sculptor-daemons-'));
  const scene = stageScene('sculptor-daemons');
  const children: ChildProcess[] = [];
  try {
    writeConfig(run, scene, kind.engineOut);
    execFileSync(sculpt, ['keys', 'init', '--dir', run]);
    const middle = await kind.start(run);
    children.push(middle.child);
    for (const part of ['sculptor', 'engine', 'agent']) children.push(startPart(run, part));

    scene.spawn('critical', 'latency', '--period-us', '1000', '--burn-us', '300');
    for (let i = 1; i <= 8; i += 1) scene.spawn(`batch${i}`, 'spin');
    const before = {
      shares: scene.read('critical', 'cpu.shares'),
      idle: scene.read('critical', 'cpu.idle'),
    };
    t.is(before.shares, '1024');

    // observe: recommended, refused because of the mode, nothing touched.
    await eventually('a recommendation that was refused because of the mode', 40, () =>
      actions(run).find(action => action.state === 'rejected' && action.reason?.code === 'mode'),
    );
    t.is(scene.read('critical', 'cpu.shares'), '1024');

    // enforce: the weight changes.
    middle.setMode('enforce');
    await eventually('a weight above the default', 60, () =>
      Number(scene.read('critical', 'cpu.shares')) > 1024 ? true : null,
    );

    // observe again: given back within 5 s of the stamp.
    middle.setMode('observe');
    await eventually('the weight restored', 8, () =>
      scene.read('critical', 'cpu.shares') === before.shares ? true : null,
    );
    t.is(scene.read('critical', 'cpu.idle'), before.idle);

    for (const child of children) t.is(child.exitCode, null, 'every part still runs');
  } catch (error) {
    for (const part of ['agent', 'engine', 'sculptor', 'middle']) {
      const log = join(run, `${part}.log`);
      if (existsSync(log)) t.log(`${part}: ${readFileSync(log, 'utf8').slice(-2000)}`);
    }
    throw error;
  } finally {
    await Promise.all(children.reverse().map(endGently));
    execFileSync(sculpt, ['restore', '--config', join(run, 'sculpt.yaml')]);
    await scene.end();
    rmSync(run, { recursive: true });
  }
}

function writeConfig(run: string, scene: Scene, engineOut: string): void {
  writeFileSync(
    join(run, 'sculpt.yaml'),
    JSON.stringify({
      agent: { endpoint: `unix://${run}/pipeline.sock`, apiSocket: `${run}/agent-api.sock` },
      engine: {
        listen: `${run}/engine.sock`,
        endpoint: `unix://${run}/${engineOut}`,
        apiSocket: `${run}/engine-api.sock`,
        privateKey: `${run}/engine.key`,
      },
      sculptor: {
        listen: `${run}/sculptor.sock`,
        endpoint: `unix://${run}/pipeline.sock`,
        apiSocket: `${run}/sculptor-api.sock`,
        journal: `${run}/journal.db`,
        trustedEngines: [`${run}/engine.pub`],
        policy: {
          instances: [
            { match: scene.id('critical'), class: 'latency-critical' },
            { match: scene.id('batch*'), class: 'batch' },
            { match: '**', mode: 'off' },
          ],
        },
      },
    }),
  );
}

function startPart(run: string, part: string): ChildProcess {
  const log = openSync(join(run, `${part}.log`), 'a');
  return spawn(sculpt, [part, '--config', join(run, 'sculpt.yaml')], {
    stdio: ['ignore', log, log],
  });
}

/** The embedded pipeline as a process of its own: what a machine without a collector has between the parts. */
async function startPipelineProcess(run: string): Promise<Middle> {
  const log = openSync(join(run, 'middle.log'), 'a');
  const script = new URL('../support/pipeline-process.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [script, run], { stdio: ['pipe', log, log] });
  await eventually('the pipeline listens', 10, () =>
    existsSync(join(run, 'pipeline.sock')) ? true : null,
  );
  return { child, setMode: mode => child.stdin?.write(`${mode}\n`) };
}

async function startRealCollector(run: string): Promise<Middle> {
  const withMode = (mode: string) => (shipped: string) =>
    shipped.replace('key: sculptor.mode, value: observe', `key: sculptor.mode, value: ${mode}`);
  const { child, rewrite } = await startCollector({
    binary: String(collector.binary),
    run,
    prometheusPort: await freePort(),
    edit: withMode('observe'),
    listens: 'engine-out.sock',
  });
  return { child, setMode: mode => rewrite(withMode(mode)) };
}

const actionsSchema = z.array(
  z.looseObject({ state: z.string(), reason: z.looseObject({ code: z.string() }).nullable() }),
);

/** What `sculpt actions --json` answers; empty while the sculptor is not up yet. */
function actions(run: string): z.infer<typeof actionsSchema> {
  const { status, stdout } = spawnSync(
    sculpt,
    ['actions', '--json', '--config', join(run, 'sculpt.yaml')],
    { encoding: 'utf8' },
  );
  return status === 0 ? actionsSchema.parse(JSON.parse(stdout)) : [];
}

/** SIGTERM, as a service manager does; SIGKILL after 10 s. */
async function endGently(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise(resolve => child.once('exit', resolve));
  child.kill('SIGTERM');
  const late = setTimeout(() => void endChild(child), 10_000);
  await ended;
  clearTimeout(late);
}
