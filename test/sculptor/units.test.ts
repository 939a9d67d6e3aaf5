import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Move } from '../../src/contract/recommendation.ts';
import { weightActuator } from '../../src/sculptor/actuators/weight.ts';
import type { Kernel } from '../../src/sculptor/kernel.ts';
import { openUnits, settingIn, type Units, unitAt } from '../../src/sculptor/units.ts';

const service = '/system.slice/tenant.service';

test('a weight of a systemd unit is set and given back through systemd', t => {
  const { kernel, asked, weight } = stage(t);
  const move = moveOf(service);
  t.deepEqual(weightActuator.validate(kernel, move), []);
  const { entries } = weightActuator.snapshot(kernel, move);
  weightActuator.apply(kernel, entries);
  t.is(weight(), '800');
  t.true(weightActuator.readBack(kernel, entries)[0]?.ours);
  const [undone] = weightActuator.undo(kernel, entries, entries);
  t.is(undone?.state, 'restored');
  t.is(weight(), '100');
  t.deepEqual(asked, ['set tenant.service CPUWeight=800', 'forget tenant.service CPUWeight']);
});

test('what somebody has set at run time is left to them', t => {
  const { kernel } = stage(t, { isSet: () => true });
  const [problem] = weightActuator.validate(kernel, moveOf(service));
  t.is(problem?.code, 'owned');
  t.regex(problem?.message ?? '', /tenant\.service: somebody has set CPUWeight at run time/);
});

test('what is below a unit is left to who runs there', t => {
  const { kernel, cgroup } = stage(t);
  mkdirSync(join(cgroup, 'workers'));
  writeFileSync(join(cgroup, 'workers/cpu.weight'), '100\n');
  const [problem] = weightActuator.validate(kernel, moveOf(`${service}/workers`));
  t.is(problem?.code, 'owned');
});

test('a change by somebody else meanwhile is left as it is', t => {
  const { kernel, write, asked, weight, systemdSays } = stage(t);
  const { entries } = weightActuator.snapshot(kernel, moveOf(service));
  weightActuator.apply(kernel, entries);
  systemdSays('300');
  write('300');
  const [undone] = weightActuator.undo(kernel, entries, entries);
  t.is(undone?.state, 'yielded');
  t.is(weight(), '300');
  t.false(asked.some(line => line.startsWith('forget')));
});

test('a unit that was started again meanwhile has what was set in its new cgroup, and is given back', t => {
  const { kernel, asked, weight, write, remake } = stage(t);
  const { entries } = weightActuator.snapshot(kernel, moveOf(service));
  weightActuator.apply(kernel, entries);
  remake();
  write('800');
  t.not(inode(kernel), entries[0]?.identity);
  t.is(weightActuator.undo(kernel, entries, entries)[0]?.state, 'restored');
  t.is(weight(), '100');
  t.is(asked.at(-1), 'forget tenant.service CPUWeight');
});

test('systemd forgets what we set also where the unit has stopped, or somebody has written to its cgroup', t => {
  const stopped = stage(t);
  const { entries } = weightActuator.snapshot(stopped.kernel, moveOf(service));
  weightActuator.apply(stopped.kernel, entries);
  stopped.remove();
  t.is(weightActuator.undo(stopped.kernel, entries, entries)[0]?.state, 'gone');
  t.is(stopped.asked.at(-1), 'forget tenant.service CPUWeight');

  let forgotten = 0;
  const forget = () => {
    forgotten += 1;
  };
  const written = stage(t, { forget });
  const { entries: others } = weightActuator.snapshot(written.kernel, moveOf(service));
  weightActuator.apply(written.kernel, others);
  written.write('300');
  t.is(weightActuator.undo(written.kernel, others, others)[0]?.state, 'yielded');
  t.is(written.weight(), '300');
  t.is(forgotten, 1);
});

test('what a drop-in sets is read as systemd writes it', t => {
  const text =
    '# This is a drop-in unit file extension\n[Service]\nAllowedCPUs=\nAllowedCPUs=0-1 3\n';
  t.is(settingIn(text, 'AllowedCPUs'), '0-1,3');
  t.is(settingIn('[Slice]\nCPUWeight=800\n', 'CPUWeight'), '800');
  t.is(settingIn('[Slice]\nCPUWeight=800\n', 'AllowedCPUs'), null);
  t.is(settingIn('[Slice]\nCPUWeight=\n', 'CPUWeight'), null);
});

test('a reload that failed is asked for again, though nothing is left to remove', t => {
  const asked: string[] = [];
  let refuses = true;
  const units = openUnits(args => {
    asked.push(args.join(' '));
    if (refuses) throw new Error('timed out');
  });
  const ours = [['sculptor-no-such.service', 'CPUWeight']] as const;
  t.throws(() => units.forget(ours), { message: /systemctl daemon-reload: timed out/ });
  refuses = false;
  units.forget(ours);
  t.deepEqual(asked, ['daemon-reload', 'daemon-reload']);
});

test('systemd that refuses is a failure that names why, and a later undo succeeds', t => {
  let refuses = true;
  const { kernel, weight } = stage(t, {
    forget: () => {
      if (refuses) throw new Error('Failed to reload daemon: refused');
    },
  });
  const { entries } = weightActuator.snapshot(kernel, moveOf(service));
  weightActuator.apply(kernel, entries);
  const [failed] = weightActuator.undo(kernel, entries, entries);
  t.is(failed?.state, 'failed');
  t.regex(failed?.message ?? '', /refused/);
  refuses = false;
  t.is(weightActuator.undo(kernel, entries, entries)[0]?.state, 'restored');
  t.is(weight(), '100');
});

test('only units of the system’s own manager are found', t => {
  t.is(unitAt('/tenant.service'), 'tenant.service');
  t.is(unitAt('/a.slice/a-b.slice/x.scope'), 'x.scope');
  t.is(unitAt('/system.slice/_cpu.service'), 'cpu.service');
  t.is(unitAt('/user.slice/user-0.slice/user@0.service/app.slice/x.service'), null);
  t.is(unitAt('/system.slice/docker.service/abc'), null);
});

/** One unit on a tree of its own, and a systemd that writes its cgroup as the real one does. */
function stage(t: ExecutionContext, change: Partial<Units> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-units-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const cgroup = join(folder, service);
  mkdirSync(cgroup, { recursive: true });
  const write = (value: string) => writeFileSync(join(cgroup, 'cpu.weight'), `${value}\n`);
  write('100');
  const asked: string[] = [];
  const remove = () => rmSync(cgroup, { recursive: true });
  let held: string | null = null;
  const units: Units = {
    isSet: () => false,
    valueNow: () => held,
    set: (unit, property, value) => {
      asked.push(`set ${unit} ${property}=${value}`);
      held = value;
      write(value);
    },
    forget: properties => {
      for (const [unit, property] of properties) asked.push(`forget ${unit} ${property}`);
      held = null;
      if (existsSync(cgroup)) write('100');
    },
    ...change,
  };
  const kernel: Kernel = {
    roots: { proc: join(folder, 'proc'), sys: join(folder, 'sys'), cgroup: folder },
    layout: { version: 2, cpu: folder, cpuset: folder },
    native: { getAffinity: () => [], setAffinity: () => new Int32Array() },
    ownMasks: () => new Map(),
    systemd: true,
    units,
  };
  const setBy = (value: string) => {
    held = value;
  };
  const weight = () => readFileSync(join(cgroup, 'cpu.weight'), 'utf8').trim();
  /** The unit starts again: another folder, whose inode is another while the old one is there. */
  const remake = () => {
    renameSync(cgroup, `${cgroup}-before`);
    mkdirSync(cgroup);
  };
  return { kernel, cgroup, asked, write, weight, remove, remake, systemdSays: setBy };
}

function inode(kernel: Kernel): number {
  return statSync(join(kernel.layout.cpu, service)).ino;
}

function moveOf(id: string): Move {
  return { instance: { id, kind: 'cgroup', name: id }, tasks: [], set: { weight: 800 } };
}
