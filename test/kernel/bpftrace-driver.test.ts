import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { beat } from '../../src/agent/bpftrace/output.ts';
import { bpftraceOf, type RunEnd } from '../../src/agent/bpftrace/run.ts';
import { isKvmLoaded } from '../../src/agent/probes/kvm.ts';
import { realClock } from '../../src/cli/clock.ts';
import { readText } from '../../src/linux/read-file.ts';
import { hostRoots, type Roots } from '../../src/linux/roots.ts';
import { needs } from '../support/needs.ts';
import { childrenOf, endChild, eventually, stageScene } from '../support/scene.ts';
import { coresOf, startTold } from '../support/told-agent.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus', 'bpftrace', 'tracefs');
const main = new URL('../../src/cli/main.ts', import.meta.url).pathname;

test('driver: bpftrace: what the scheduler does with a real cgroup and its threads, and nothing that it cannot tell', async t => {
  t.timeout(60_000);
  const told = await startTold({ driver: 'bpftrace' });
  const scene = stageScene('sculptor-bpftrace');
  const id = scene.id('four');
  try {
    const { pid = 0 } = scene.spawn('four', 'spin', '--threads', '4');
    await eventually('six seconds of series', 20, () =>
      told.pointsOf('container.cpu.time', id).length >= 6 ? true : null,
    );
    const used = told.pointsOf('container.cpu.time', id);
    const wait = told.pointsOf('sculptor.runqueue.wait', id);
    const together = coresOf(used, 2) + coresOf(wait, 2);
    t.true(Math.abs(together - 4) < 0.4, `${together} cores of four threads`);
    t.true(coresOf(wait, 2) > 1.5, `${coresOf(wait, 2)} cores of wait`);
    t.true(used.every((point, i) => i === 0 || Number(point.value) >= Number(used[i - 1]?.value)));
    const histogram = await eventually(
      'the latency histogram',
      5,
      () => told.pointsOf('sculptor.runqueue.latency', id).at(-1)?.value,
    );
    t.true(typeof histogram === 'object' && histogram.kind === 'explicit' && histogram.count > 100);
    const last = (metric: string, wanted: string) =>
      told
        .pointsOf(metric, id)
        .findLast(({ attributes }) => Object.values(attributes).includes(wanted))?.value;
    const switches = last('sculptor.cpu.context_switches', 'involuntary');
    t.true(Number(switches) > 100, `${switches} switches`);
    const user = last('sculptor.cpu.time', 'user');
    t.true(Number(user) > 1, `${user} s in user mode`);
    const forItself = last('sculptor.runqueue.wait.by_preemptor', id);
    t.true(Number(forItself) > 1, `${forItself} s of wait for its own`);
    t.is(last('sculptor.offcpu.time', 'throttled'), 0);
    // Each of its threads is among the hottest; a series begins with the thread.
    const threads = told
      .pointsOf('sculptor.task.cpu.time', id)
      .filter(({ attributes }) => attributes['process.pid'] === pid);
    const tids = new Set(threads.map(({ attributes }) => attributes['thread.id']));
    t.true(tids.size >= 4, `${tids.size} threads`);
    const ran = Number(threads.at(-1)?.value);
    t.true(ran > 0.5 && ran < 30, `${ran} s of one thread`);
    t.true(told.pointsOf('sculptor.task.runqueue.wait', id).length > 0);
    t.deepEqual(told.pointsOf('sculptor.task.offcpu.time', id), []);
    t.true(told.pointsOf('sculptor.agent.collect.time', 'test-host').length > 0);
    t.deepEqual(told.pointsOf('sculptor.agent.events', 'test-host'), []);
    t.is(told.agent.settings().readIntervalSeconds, 1);
  } finally {
    await scene.end();
    await told.stop();
  }
  t.deepEqual(childrenOf(process.pid), [], 'no bpftrace of this process is left');
});

test('by agent.btf, where the kernel has no BTF, scripts are run by that file', async t => {
  const sys = mkdtempSync(`${tmpdir()}/sculptor-sys-`);
  t.teardown(() => rmSync(sys, { recursive: true }));
  const run = (btf: string, roots: Roots): Promise<RunEnd | null> =>
    new Promise(resolve => {
      const one = bpftraceOf(
        btf,
        roots,
      )({
        program: `BEGIN { @ = curtask->pid; }\ninterval:ms:100 { ${beat} }`,
        file: 'a.bt',
        maxBytesPerSecond: 1e6,
        maxKeys: 16,
        ...{ roots: hostRoots, clock: realClock, record: () => undefined },
        attached: () => void one.stop().then(() => resolve(null)),
        ended: resolve,
      });
    });
  const without = { ...hostRoots, sys };
  t.is(await run('/sys/kernel/btf/vmlinux', without), null);
  t.like(await run('/dev/null', without), { attached: false });
  // It has its own: the file is not looked at.
  t.is(await run('/dev/null', hostRoots), null);
});

test('an agent that waits for bpftrace to attach stops when it is told to', async t => {
  const folder = mkdtempSync(`${tmpdir()}/sculptor-attaching-`);
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(`${folder}/bpftrace`, '#!/bin/sh\nexec sleep 300\n', { mode: 0o755 });
  const config = `${folder}/sculpt.yaml`;
  writeFileSync(config, 'agent: { driver: bpftrace }');
  const args = ['agent', '--config', config, '--run-dir', folder];
  const agent = spawn(process.execPath, [main, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, PATH: `${folder}:${process.env['PATH']}` },
  });
  t.teardown(() => endChild(agent));
  const ended = new Promise<number | null>(resolve => agent.once('close', resolve));
  const waits = await eventually('that it waits', 30, () =>
    childrenOf(agent.pid ?? 0).find(each => readText(`/proc/${each}/comm`) === 'sleep'),
  );
  const told = performance.now();
  agent.kill('SIGTERM');
  t.is(await ended, 0);
  t.true(performance.now() - told < 10_000);
  await eventually('its end', 10, () => (existsSync(`/proc/${waits}`) ? null : true));
});

test('a signal to all of a terminal, as Ctrl-C is one, stops the agent, which stops bpftrace: nothing is said to be begun again', async t => {
  t.timeout(60_000);
  const folder = mkdtempSync(`${tmpdir()}/sculptor-group-`);
  t.teardown(() => rmSync(folder, { recursive: true }));
  mkdirSync(`${folder}/probes`);
  const header = '// sculptor: name: my.a, unit: "1", type: counter';
  writeFileSync(`${folder}/probes/a.bt`, `${header}\ninterval:ms:100 { @ = count(); }\n`);
  const config = `${folder}/sculpt.yaml`;
  writeFileSync(
    config,
    JSON.stringify({
      agent: {
        driver: 'bpftrace',
        endpoint: `unix://${folder}/nobody.sock`,
        apiSocket: `${folder}/api.sock`,
        customProbes: { directory: `${folder}/probes` },
      },
    }),
  );
  // A group of its own, as a shell makes one.
  const agent = spawn(process.execPath, [main, 'agent', '--config', config], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  t.teardown(() => endChild(agent));
  let said = '';
  agent.stderr.on('data', chunk => {
    said += String(chunk);
  });
  const ended = new Promise<number | null>(resolve => agent.once('close', resolve));
  await eventually('the custom probe runs', 30, () => /a\.bt runs/.exec(said));
  const pid = agent.pid ?? 0;
  const asked = childrenOf(pid);
  // The scheduler, three of the sources, or four, and the custom probe.
  t.is(asked.length, isKvmLoaded('/sys') ? 6 : 5, said);
  // As on a busy machine: they have all had theirs before the agent sees its own.
  process.kill(pid, 'SIGSTOP');
  process.kill(-pid, 'SIGINT');
  await sleep(1000);
  process.kill(pid, 'SIGCONT');
  t.is(await ended, 0, said);
  t.regex(said, /agent: stopping after SIGINT/);
  t.notRegex(said, /begun again/);
  t.deepEqual(
    asked.filter(one => existsSync(`/proc/${one}`)),
    [],
  );
});
