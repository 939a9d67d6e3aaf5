import { readFileSync } from 'node:fs';
import type { Status } from '../../../src/cli/commands/status.ts';
import { buildCollector } from '../../collector/support/collector.ts';
import { eventually } from '../../support/scene.ts';
import { type Lab, withLab } from '../lab.ts';
import { needsLab } from '../needs-lab.ts';

// The units that ship, started by a real systemd as docs/systemd.md says.

const sculpt = '/opt/sculptor/bin/sculpt';
const units = '/opt/sculptor/deploy/systemd';

needsLab()(
  'sculpt-up.service starts, says among whom its nice value counts, and stops',
  async t => {
    t.timeout(700_000);
    await withLab({ init: 'systemd', deadlineSeconds: 600 }, async lab => {
      await lab.run('ln -s /checkout /opt/sculptor');
      await lab.run(`systemctl link ${units}/sculpt-up.service`);
      await lab.run('systemctl start sculpt-up.service', { timeoutSeconds: 90 });
      await lab.until(`${sculpt} status`, 180);
      // The lab has the CPU controller on for this slice.
      const said = /runs at nice -10 within \/system\.slice, whose weight \(\d+\) is what counts/;
      t.regex(await lab.run('journalctl -u sculpt-up'), said);
      t.is((await priorityOf(lab, 'sculpt-up')).nice, -10);
      t.deepEqual(await endOf(lab, 'sculpt-up'), ended);
    });
  },
);

const { binary, why } = buildCollector();
if (binary === null) console.error(`# skipped: ${why}`);

(binary === null ? needsLab().skip : needsLab())(
  'agent, engine and sculptor as users of their own, with a stock collector between them: what the engine signs arrives; then all of it is removed, as the page says, and the collector goes on',
  async t => {
    t.timeout(1_000_000);
    await withLab({ init: 'systemd', deadlineSeconds: 900 }, async lab => {
      await lab.run('ln -s /checkout /opt/sculptor');
      await lab.run(`
        set -e
        systemd-sysusers ${units}/sculptor.sysusers
        ln -s ${units}/sculptor.tmpfiles /etc/tmpfiles.d/sculptor.conf
        systemd-tmpfiles --create sculptor.conf
        ${sculpt} keys init && chown sculptor-engine /etc/sculptor/engine.key
        useradd --system otelcol
        cp ${binary} /usr/local/bin/otelcol
        mkdir -p /etc/systemd/system/otelcol.service.d
        cp ${units}/collector.conf /etc/systemd/system/otelcol.service.d/sculptor.conf`);
      await lab.write('/etc/sculptor/sculpt.yaml', configuration);
      await lab.write(
        '/etc/systemd/system/otelcol.service',
        unitOf('/opt/sculptor/otel-collector/sculptor.yaml'),
      );
      const parts = ['agent', 'engine', 'sculptor'].map(part => `sculpt-${part}`);
      for (const part of parts) await lab.run(`systemctl link ${units}/${part}.service`);
      await lab.run('systemctl daemon-reload');
      for (const unit of ['otelcol', ...parts])
        await lab.run(`systemctl start ${unit}.service`, { timeoutSeconds: 90 });
      const heard = await eventually('what the engine signs is heard', 300, async () => {
        const { agent, engine, sculptor } = await statusOf(lab);
        const isWhole =
          (agent?.exports.delivered ?? 0) > 0 &&
          (engine?.instances ?? 0) > 0 &&
          (sculptor?.heartbeatAgeSeconds ?? null) !== null;
        return isWhole ? { failure: agent?.exports.lastFailure, mode: sculptor?.mode } : null;
      });
      t.deepEqual(heard, { failure: null, mode: 'observe' });
      for (const part of parts)
        t.deepEqual(
          await told(lab, part, 'NRestarts'),
          ['0'],
          await lab.run(`journalctl -u ${part}`),
        );
      const runs = [];
      for (const part of parts) runs.push(await priorityOf(lab, part));
      t.deepEqual(runs, [
        // As root the part itself would raise its session, but Debian's 6.1 has autogroups off: it counts for nothing there.
        { user: 'sculptor-agent', nice: -10, session: -10 },
        { user: 'sculptor-engine', nice: -10, session: -10 },
        { user: 'root', nice: -10, session: 0 },
      ]);
      for (const part of parts) t.deepEqual(await endOf(lab, part), ended, part);

      const [disable = '', dropIn = '', rest = ''] = removal();
      // Those that are there.
      const present = disable.replace('sculpt-up ', '');
      t.regex(await lab.run(present, { timeoutSeconds: 120 }), /Nothing to restore/);
      await lab.write('/etc/otelcol.yaml', withoutSculptor);
      await lab.write('/etc/systemd/system/otelcol.service', unitOf('/etc/otelcol.yaml'));
      await lab.run(dropIn, { timeoutSeconds: 60 });
      await lab.run(rest);
      await lab.run('systemctl restart otelcol', { timeoutSeconds: 60 });
      await lab.until('journalctl -u otelcol | grep -c "Everything is ready" | grep -qx 3', 60);
      const left = await lab.run(
        `{ find /etc /run /var /opt -name '*sculpt*'; getent passwd; getent group; systemctl list-unit-files; } |
         grep sculpt || echo nothing`,
      );
      t.is(left.trim(), 'nothing');
    });
  },
);

/** The commands of the page by which one is rid of it. */
function removal(): string[] {
  const page = readFileSync(new URL('../../../docs/systemd.md', import.meta.url), 'utf8');
  const section = page.slice(page.indexOf('## To be rid of it'));
  return [...section.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, commands = '']) => commands);
}

const configuration = `sockets: { allowUsers: [root, otelcol] }
engine: { endpoint: "unix:///run/sculptor/engine-out.sock", privateKey: /etc/sculptor/engine.key }
sculptor: { trustedEngines: [/etc/sculptor/engine.pub] }
`;

const unitOf = (config: string): string => `[Service]
User=otelcol
ExecStart=/usr/local/bin/otelcol --config ${config}
`;

/** What the collector does for others. */
const withoutSculptor = `receivers: { otlp: { protocols: { grpc: { endpoint: "127.0.0.1:4317" } } } }
exporters: { debug: {} }
service: { pipelines: { metrics: { receivers: [otlp], exporters: [debug] } } }
`;

const ended = ['success', '0'];

async function statusOf(lab: Lab): Promise<Partial<Status>> {
  const { code, out } = await lab.tryRun(`${sculpt} status --json`);
  return code === 0 ? (JSON.parse(out) as Status) : {};
}

/** Stops a unit: its result, and the main process's exit code. */
async function endOf(lab: Lab, unit: string): Promise<string[]> {
  await lab.run(`systemctl stop ${unit}.service`, { timeoutSeconds: 120 });
  return told(lab, unit, 'Result', 'ExecMainStatus');
}

async function told(lab: Lab, unit: string, ...properties: string[]): Promise<string[]> {
  const answers: string[] = [];
  for (const property of properties)
    answers.push((await lab.run(`systemctl show --value -p ${property} ${unit}.service`)).trim());
  return answers;
}

/** Whose the main process is, its nice value, and that of its session among sessions. */
async function priorityOf(
  lab: Lab,
  unit: string,
): Promise<{ user: string; nice: number; session: number }> {
  const [pid] = await told(lab, unit, 'MainPID');
  const [user = '', nice] = (await lab.run(`ps -o user:32=,ni= -p ${pid}`)).trim().split(/\s+/);
  const session = await lab.run(`sed 's/.* nice //' /proc/${pid}/autogroup`);
  return { user, nice: Number(nice), session: Number(session) };
}
