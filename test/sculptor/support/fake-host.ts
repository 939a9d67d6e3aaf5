import type { KeyObject } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Action } from '../../../src/contract/action.ts';
import { type SculptorConfig, sculptorConfigSchema } from '../../../src/contract/config.ts';
import { attr, scopes } from '../../../src/contract/metrics.ts';
import type { Mode } from '../../../src/contract/policy.ts';
import type {
  Heartbeat,
  Recommendation,
  Withdrawal,
} from '../../../src/contract/recommendation.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { eventEncoder } from '../../../src/otlp/events-exporter.ts';
import type { Outcome } from '../../../src/otlp/server.ts';
import { generateKeys, signedEvent } from '../../../src/otlp/signing.ts';
import { createActionLog } from '../../../src/sculptor/action-log.ts';
import { createExecutor } from '../../../src/sculptor/executor.ts';
import { createHeadlineSeries } from '../../../src/sculptor/headline-series.ts';
import { createHistory } from '../../../src/sculptor/history.ts';
import { createIntake } from '../../../src/sculptor/intake.ts';
import { openJournal } from '../../../src/sculptor/journal.ts';
import type { Kernel } from '../../../src/sculptor/kernel.ts';
import { createPermission } from '../../../src/sculptor/permission.ts';
import { createReception } from '../../../src/sculptor/reception.ts';
import { openUnits } from '../../../src/sculptor/units.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

export const hostId = 'host-1';
export type FakeHost = ReturnType<typeof fakeHost>;

/** A sculptor's parts on a cgroup v2 tree of files, four CPUs, threads that are entries of a map, and a stepped clock. */
export function fakeHost(
  t: ExecutionContext,
  change: Record<string, unknown> = {},
  folder = mkdtempSync(join(tmpdir(), 'sculptor-host-')),
) {
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const config: SculptorConfig = sculptorConfigSchema.parse({
    journal: join(folder, 'journal.db'),
    ...change,
  });
  const tree = join(folder, 'cgroup');
  const threads = new Map<number, { cpus: number[]; startTicks: number; own: boolean }>();
  writeTree(folder);
  const kernel: Kernel = {
    roots: { proc: join(folder, 'proc'), sys: join(folder, 'sys'), cgroup: tree },
    layout: { version: 2, cpu: tree, cpuset: null },
    native: {
      getAffinity: tid => threads.get(tid)?.cpus ?? fail('ESRCH'),
      setAffinity: (tids, cpus) =>
        tids.map(tid => {
          const thread = threads.get(tid);
          if (!thread) return 3;
          threads.set(tid, { ...thread, cpus: [...cpus], own: true });
          return 0;
        }),
    },
    ownMasks: () =>
      new Map(
        [...threads].map(([tid, { startTicks, own }]) => [
          tid,
          { tgid: tid, startTicks, ownMask: own, asked: null },
        ]),
      ),
    systemd: false,
    units: openUnits(),
  };
  const clock = steppedClock();
  const journal = openJournal(config.journal, 'boot-1', hostRoots);
  const close = (): void => {
    if (journal.db.isOpen) journal.close();
  };
  t.teardown(close);
  const told: Action[] = [];
  const series = createHeadlineSeries();
  const history = createHistory(journal.recentActions(500));
  const log = createActionLog({ hostId, clock, emit: action => void told.push(action) });
  const permission = createPermission({ config, journal, clock });
  const say = () => undefined;
  const parts = { config, kernel, journal, series, history, log, clock, say };
  const executor = createExecutor(parts);
  const reception = createReception({ ...parts, permission, executor });
  const keys = generateKeys();
  const intake = createIntake({
    ...{ hostId, trustedKeys: [keys.publicKey], series, permission, reception, say },
    heard: () => undefined,
  });
  let sequence = 0;
  const epoch = Math.floor(clock.unixSeconds() * 1000) - 3_600_000;
  const send = (
    name: Sent['name'],
    record: Sent['record'],
    key: KeyObject,
    mode: Mode | null,
    scope: string,
  ) => {
    const event = signedEvent(name, record as never, key, 'test');
    const attributes =
      mode === null ? event.attributes : { ...event.attributes, [attr.mode]: mode };
    const bytes = eventEncoder(scope, {})({ ...event, attributes }, clock.unixSeconds());
    return intake.logs(Buffer.from(bytes));
  };
  return {
    ...{
      config,
      folder,
      kernel,
      clock,
      journal,
      told,
      series,
      history,
      log,
      permission,
      executor,
      reception,
      intake,
      keys,
      threads,
    },
    /** Another may then begin in its folder. */
    end: close,
    last: () => told.at(-1),
    reason: () => told.at(-1)?.reason?.code,
    states: () => told.map(action => action.state),
    makeCgroup: (name: string, tids: number[] = []) => {
      mkdirSync(join(tree, name), { recursive: true });
      for (const [file, text] of [
        ['cpu.weight', '100'],
        ['cpu.idle', '0'],
        ['cgroup.threads', tids.join('\n')],
      ] as const)
        writeFileSync(join(tree, name, file), `${text}\n`);
      for (const tid of tids) addThread(folder, threads, tid);
    },
    pin: (tid: number, cpus: number[]): void => {
      const thread = threads.get(tid);
      if (thread) threads.set(tid, { ...thread, cpus, own: true });
      writeStatus(folder, tid, cpus.join());
    },
    read: (name: string, file: string) => readFileSync(join(tree, name, file), 'utf8').trim(),
    write: (name: string, file: string, text: string) =>
      writeFileSync(join(tree, name, file), `${text}\n`),
    heartbeat: (mode: Mode | null, over: Partial<Heartbeat> = {}): Promise<Outcome> => {
      sequence += 1;
      const record = { hostId, created: clock.unixSeconds(), epoch, sequence, ...over };
      return send('sculptor.heartbeat', record, keys.privateKey, mode, scopes.engine);
    },
    recommend: (
      record: Recommendation,
      mode: Mode | null = 'enforce',
      key: KeyObject = keys.privateKey,
      scope: string = scopes.engine,
    ): Promise<Outcome> => send('sculptor.recommendation', record, key, mode, scope),
    withdraw: (record: Withdrawal): Promise<Outcome> =>
      send('sculptor.withdrawal', record, keys.privateKey, null, scopes.engine),
    raw: (attributes: Record<string, string>): Promise<Outcome> =>
      intake.logs(
        Buffer.from(
          eventEncoder(scopes.engine, {})(
            { eventName: 'sculptor.recommendation', body: 'x', attributes },
            clock.unixSeconds(),
          ),
        ),
      ),
    /** Points every second for the last seconds: constant cores of run and wait. */
    feed: createFeed(series, clock),
  };
}

type Sent = {
  name: 'sculptor.heartbeat' | 'sculptor.recommendation' | 'sculptor.withdrawal';
  record: Heartbeat | Recommendation | Withdrawal;
};

function createFeed(
  series: ReturnType<typeof createHeadlineSeries>,
  clock: { unixSeconds: () => number },
) {
  const totals = new Map<string, { time: number; run: number; wait: number }>();
  return (instance: string, cores: { run: number; wait: number }, seconds = 10) => {
    const now = clock.unixSeconds();
    const total = totals.get(instance) ?? { time: now - seconds, run: 1, wait: 1 };
    if (!totals.has(instance)) put(series, instance, total);
    while (total.time + 1 <= now + 1e-6) {
      total.time += 1;
      total.run += cores.run;
      total.wait += cores.wait;
      put(series, instance, total);
    }
    totals.set(instance, total);
  };
}

function put(
  series: ReturnType<typeof createHeadlineSeries>,
  instance: string,
  total: { time: number; run: number; wait: number },
) {
  series.add(instance, 'container.cpu.time', total.time, total.run);
  series.add(instance, 'sculptor.runqueue.wait', total.time, total.wait);
}

function writeTree(folder: string): void {
  mkdirSync(join(folder, 'cgroup'), { recursive: true });
  mkdirSync(join(folder, 'sys/devices/system/cpu'), { recursive: true });
  mkdirSync(join(folder, 'proc/sys/kernel/random'), { recursive: true });
  writeFileSync(join(folder, 'proc/sys/kernel/random/boot_id'), 'boot-1\n');
  for (const file of ['possible', 'online'])
    writeFileSync(join(folder, 'sys/devices/system/cpu', file), '0-3\n');
  writeFileSync(join(folder, 'proc/uptime'), '1000.00 0.00\n');
}

function addThread(
  folder: string,
  threads: Map<number, { cpus: number[]; startTicks: number; own: boolean }>,
  tid: number,
): void {
  threads.set(tid, { cpus: [0, 1, 2, 3], startTicks: 5000 + tid, own: false });
  mkdirSync(join(folder, 'proc', String(tid)), { recursive: true });
  writeStatus(folder, tid, '0-3');
}

function writeStatus(folder: string, tid: number, cpus: string): void {
  writeFileSync(
    join(folder, 'proc', String(tid), 'status'),
    `Name:\tx\nTgid:\t${tid}\nCpus_allowed_list:\t${cpus}\n`,
  );
}

function fail(code: string): never {
  throw Object.assign(new Error(code), { code });
}
