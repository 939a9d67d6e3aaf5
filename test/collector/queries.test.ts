import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import ava, { type ExecutionContext } from 'ava';
import { instanceResource } from '../../src/agent/resources.ts';
import type { MetricSpec } from '../../src/contract/metrics/spec.ts';
import { attr, metrics, scopes } from '../../src/contract/metrics.ts';
import { createMetricsExporter } from '../../src/otlp/metrics-exporter.ts';
import type { Sample } from '../../src/otlp/sample.ts';
import { temporalityFrom } from '../../src/otlp/temporality.ts';
import { writeMetrics } from '../../src/otlp/write-metrics.ts';
import { type CgroupBox, makeCgroupBox } from '../support/cgroup-box.ts';
import { type LoopDisk, makeLoopDisk } from '../support/loop-disk.ts';
import { has, needs } from '../support/needs.ts';
import { namesInPrometheus } from '../support/prometheus-names.ts';
import { metricsIn, type Query, queries } from '../support/queries-page.ts';
import { endChild, eventually } from '../support/scene.ts';
import { type Ask, lacking, logEnds, startBackend, startTelling } from './support/prometheus.ts';

const workload = new URL('../../build/sculpt-workload', import.meta.url).pathname;

for (const why of lacking) console.error(`# skipped: ${why}`);
const machineTest = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'cgroupV1Memory', 'loopDevice');
const sceneTest = lacking.length === 0 ? machineTest : machineTest.skip;
const test = lacking.length === 0 ? ava.serial : ava.skip;

sceneTest(
  'every query of docs/queries.md answers, and what has ended is gone within metric_expiration',
  async t => {
    t.timeout(300_000);
    const run = mkdtempSync(join(tmpdir(), 'sculptor-queries-'));
    const disk = makeLoopDisk(32, 'mq-deadline');
    const scene = stage();
    const children: ChildProcess[] = [];
    try {
      const ask = await startTelling(run, children);
      scene.start(disk);
      for (const query of queries) await answers(t, ask, query, scene.named);
      await saysWhoIsHeldBack(ask, scene);
      await hasKnownNames(t, ask);

      const other = `container_cpu_time_seconds_total{sculptor_instance_name="${scene.name('other')}"}`;
      t.is((await ask(other)).length, 1);
      await scene.end('other');
      await eventually('what has ended is gone', 90, async () => isEmpty(await ask(other)) || null);
      // Nothing that the collector could not make a series of, nor two that are one to Prometheus.
      const log = readFileSync(join(run, 'middle.log'), 'utf8');
      t.notRegex(log, /failed to convert|conflict|collected before/);
    } catch (error) {
      logEnds(t, run);
      throw error;
    } finally {
      await Promise.all(children.map(endChild));
      await scene.end();
      disk.end();
      rmSync(run, { recursive: true });
    }
  },
);

test("which part of a guest's delay was the host's is told by vCPU", async t => {
  t.timeout(120_000);
  const run = mkdtempSync(join(tmpdir(), 'sculptor-queries-'));
  const children: ChildProcess[] = [];
  let stop = async (): Promise<void> => undefined;
  try {
    const ask = await startBackend(run, children);
    stop = tellOfVm(run);
    const { text } = queries.find(query => query.text.startsWith('clamp_max(')) as Query;
    const shares = await eventually(text, 60, async () => {
      const answer = await ask(text);
      return answer.length === 2 ? answer : null;
    });
    const byVcpu = shares.map(
      ({ labels, value }) => [labels['sculptor_vcpu_index'], value] as const,
    );
    t.deepEqual(Object.fromEntries(byVcpu.map(([vcpu, value]) => [vcpu, value.toFixed(1)])), {
      0: '0.4',
      1: '1.0',
    });
  } catch (error) {
    logEnds(t, run);
    throw error;
  } finally {
    await stop();
    await Promise.all(children.map(endChild));
    rmSync(run, { recursive: true });
  }
});

/**
 * Tells of a VM as an agent does of one with an agent in it, since here there is none: the tasks of the guest wait half of the time for
 * each vCPU. The first is kept waiting by the host for a fifth of it, the second, by what both sides measured, for a little more.
 */
function tellOfVm(run: string): () => Promise<void> {
  const exporter = createMetricsExporter({ endpoint: `unix://${run}/pipeline.sock` });
  const instance = { id: 'a-vm', kind: 'vm', name: 'guest' } as const;
  const resource = instanceResource({ hostId: 'h', hostName: 'host' }, { instance, path: '/vm' });
  const temporal = temporalityFrom(undefined);
  const telling = {
    scope: scopes.agent,
    resource,
    temporal,
    resolution: () => 'explicit' as const,
  };
  const start = Date.now() / 1000;
  const tell = async (): Promise<void> => {
    const now = Date.now() / 1000;
    const samples = [0.2, 0.51].flatMap((hostShare, vcpu): Sample[] => [
      {
        metric: 'sculptor.vcpu.guest.runqueue.wait',
        attributes: { [attr.vcpuIndex]: vcpu },
        ...{ start, value: (now - start) * 0.5 },
      },
      {
        metric: 'sculptor.task.runqueue.wait',
        attributes: { [attr.threadId]: vcpu + 1, [attr.vcpuIndex]: vcpu },
        ...{ start, value: (now - start) * hostShare },
      },
    ]);
    await exporter.export([writeMetrics(telling, samples, now)]);
  };
  const timer = setInterval(() => void tell(), 200);
  return async () => {
    clearInterval(timer);
    await exporter.stop();
  };
}

const roles = ['web', 'batch', 'limited', 'other'] as const;
type Role = (typeof roles)[number];

/** A client and its server over TCP. */
const talk = `const net = require('node:net');
const server = net.createServer(socket => socket.pipe(socket)).listen(0, '127.0.0.1', () => {
  const client = net.connect(server.address().port, '127.0.0.1');
  setInterval(() => client.write('x'), 20);
});`;

/** Who serves, who keeps it waiting, who is held back by a quota, and who will end. */
function stage() {
  const boxes = new Map<Role, CgroupBox>(
    roles.map(role => [role, makeCgroupBox('/sys/fs/cgroup/cpu')]),
  );
  const of = (role: Role): CgroupBox => boxes.get(role) as CgroupBox;
  const name = (role: Role): string => basename(of(role).folder);
  return {
    name,
    /** A query of these instances, not of those that the page names. */
    named: (text: string) =>
      text.replaceAll('"web"', `"${name('web')}"`).replaceAll('"batch"', `"${name('batch')}"`),
    start: ({ path }: LoopDisk) => {
      of('web').spawn(workload, 'latency', '--period-us', '1000', '--burn-us', '300');
      of('web').spawn(process.execPath, '-e', talk);
      const write = `dd if=/dev/zero of=${path} bs=64k count=64 oflag=direct status=none`;
      of('web').spawn('sh', '-c', `while ${write}; do sleep 0.1; done`);
      for (const role of ['batch', 'other'] as const)
        of(role).spawn(workload, 'spin', '--threads', '3');
      of('limited').write('cpu.cfs_quota_us', '20000');
      of('limited').spawn(workload, 'spin');
    },
    end: async (...which: Role[]) => {
      for (const role of which.length > 0 ? which : [...boxes.keys()]) {
        await of(role).end();
        boxes.delete(role);
      }
    },
  };
}

/** Measured of virtual machines, or within one: here there are none. */
const ofVms = new Set<string>(['kvm', 'guests', 'steal', 'vdisks', 'taps', 'dirty']);

function isOfVms(query: Query): boolean {
  const specs = metricsIn(query).map(name => (metrics as Record<string, MetricSpec>)[name]);
  return (
    query.text.includes('sculptor_vcpu_index!=""') ||
    specs.some(spec => spec?.sources.every(source => ofVms.has(source)))
  );
}

async function answers(
  t: ExecutionContext,
  ask: Ask,
  query: Query,
  named: (text: string) => string,
): Promise<void> {
  const text = named(query.text);
  // That Prometheus takes it is what can be asked of these.
  const isUntold = text.includes('sculptor_network_') && !has('socketsOfFiles');
  if (query.isAlert || isOfVms(query) || isUntold)
    t.log(`${(await ask(text)).length} answers: ${text}`);
  else
    await eventually(text, 90, async () => {
      const answer = await ask(text);
      return answer.some(({ value }) => Number.isFinite(value)) || null;
    });
}

/** Who is held back by a quota, who by others, and by whom. */
async function saysWhoIsHeldBack(ask: Ask, scene: ReturnType<typeof stage>): Promise<void> {
  const about = async (beginning: string, label: string) => {
    const { text } = queries.find(query => query.text.startsWith(beginning)) as Query;
    return new Map((await ask(text)).map(({ labels, value }) => [labels[label], value]));
  };
  await eventually('the share that a quota holds back', 60, async () => {
    const throttled = await about('rate(sculptor_cpu_throttled_time', 'sculptor_instance_name');
    const [limited = 0, web = 1] = [scene.name('limited'), scene.name('web')].map(name =>
      throttled.get(name),
    );
    return (limited > 0.5 && web === 0) || null;
  });
  await eventually(
    'the noisy neighbour by its name',
    60,
    async () =>
      (await about('topk(5, sum by (host_name, preemptor_name)', 'preemptor_name')).has(
        scene.name('batch'),
      ) || null,
  );
}

/** Nothing has another name than the contract and the rules of translation give it. */
async function hasKnownNames(t: ExecutionContext, ask: Ask): Promise<void> {
  const names = await ask('count by (__name__) ({job="sculptor-agent", __name__!="target_info"})');
  t.deepEqual(
    names.map(({ labels }) => String(labels['__name__'])).filter(x => !namesInPrometheus.has(x)),
    [],
  );
}

function isEmpty(list: readonly unknown[]): boolean {
  return list.length === 0;
}
