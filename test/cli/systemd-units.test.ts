import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { parse } from 'yaml';
import { capabilitiesOf } from '../../src/agent/capabilities.ts';
import { createProgram } from '../../src/cli/program.ts';
import { agentConfigSchema, configSchema } from '../../src/contract/config.ts';
import { makeTree } from '../linux/tree.ts';
import { readUnit } from '../support/unit.ts';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const folder = `${checkout}deploy/systemd`;
const units = readdirSync(folder).filter(name => name.endsWith('.service'));
/** Where docs/systemd.md has the program installed. */
const installed = '/opt/sculptor/';

test('each command of a unit is one of the program’s, with options that it has', t => {
  t.true(units.length > 0);
  for (const unit of units) {
    const settings = readUnit(unit);
    for (const line of [...settings('ExecStart'), ...settings('ExecStopPost')]) {
      const [program = '', name, ...args] = line.split(' ');
      t.is(program, `${installed}bin/sculpt`, unit);
      t.true(existsSync(program.replace(installed, checkout)), program);
      const command = createProgram(() => undefined).commands.find(each => each.name() === name);
      t.deepEqual(command?.parseOptions(args), { operands: [], unknown: [] }, `${unit}: ${line}`);
    }
  }
});

test('the agent’s unit grants what any configuration may need, as measured, and nothing else', t => {
  const { sys } = makeTree(t, { 'sys/module/kvm_amd/': '', 'sys/class/macvtap/macvtap0/': '' });
  const everything = agentConfigSchema.parse({
    profile: 'full',
    user: 1000,
    outliers: { aboveSeconds: 1 },
    gate: {
      vsock: { port: 4317 },
      tcp: { host: '10.0.0.1', port: 317, guests: [{ address: '10.0.0.2', instance: 'vm' }] },
    },
  });
  const most = capabilitiesOf(everything, false, sys);
  const agent = readUnit('sculpt-agent.service');
  t.deepEqual(agent('AmbientCapabilities'), [most.join(' ')]);
  t.deepEqual(agent('CapabilityBoundingSet'), [most.join(' ')]);
  const page = readFileSync(`${checkout}docs/privileges.md`, 'utf8');
  const rows = page.split('\n').filter(line => line.startsWith('| `'));
  const measured = new Set(rows.flatMap(row => row.match(/CAP_\w+/g) ?? []));
  t.true(measured.size > 2);
  t.deepEqual(
    [...measured].filter(name => !most.some(one => one === name)),
    [],
  );
});

test('what acts is root with all that root may, and gives back whatever ends it', t => {
  for (const unit of ['sculpt-up.service', 'sculpt-sculptor.service']) {
    const settings = readUnit(unit);
    t.deepEqual(settings('ExecStopPost'), [`${installed}bin/sculpt restore`]);
    for (const name of ['User', 'CapabilityBoundingSet', 'NoNewPrivileges', 'ProtectSystem'])
      t.deepEqual(settings(name), [], `${unit}: ${name}`);
  }
});

test('the configuration of docs/systemd.md is one', t => {
  const blocks = readFileSync(`${checkout}docs/systemd.md`, 'utf8').matchAll(/```yaml\n(.*?)```/gs);
  const files = [...blocks].map(([, yaml = '']) => configSchema.safeParse(parse(yaml)));
  t.deepEqual(
    files.map(({ success }) => success),
    [true],
  );
});

const analyze = spawnSync('systemd-analyze', ['--version']).status === 0 ? test : test.skip;
if (analyze === test.skip) console.error('# skipped: this machine lacks systemd-analyze');

analyze('systemd finds nothing to say against the units', t => {
  const place = mkdtempSync(`${tmpdir()}/sculptor-units-`);
  t.teardown(() => rmSync(place, { recursive: true }));
  for (const unit of units)
    writeFileSync(
      `${place}/${unit}`,
      readFileSync(`${folder}/${unit}`, 'utf8').replaceAll(installed, checkout),
    );
  const files = units.map(unit => `${place}/${unit}`);
  const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', ...files], {
    encoding: 'utf8',
  });
  t.deepEqual({ status, stderr }, { status: 0, stderr: '' });
});
