/** Writes what is generated from src/contract/: JSON Schemas and the reference pages. `--check` only compares. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import * as z from 'zod';
import { configSchema } from '../src/contract/config.ts';
import { errorCodes } from '../src/contract/errors.ts';
import { events } from '../src/contract/events.ts';
import { gateDrops, losses } from '../src/contract/metrics/losses.ts';
import { sources } from '../src/contract/metrics/sources.ts';
import { type MetricName, metrics, schemaUrl } from '../src/contract/metrics.ts';
import { profileSchema } from '../src/contract/profile.ts';
import { toldFrom } from '../src/contract/selection.ts';

type Node = {
  type?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  maxLength?: number;
  properties?: Record<string, Node>;
  items?: Node;
  anyOf?: Node[];
};

const generated = new Map<string, string>();
for (const [name, { schema }] of Object.entries(events))
  generated.set(`docs/schemas/${name}.json`, jsonSchema(schema, name));
generated.set('docs/schemas/profile.json', jsonSchema(profileSchema, 'profile'));
generated.set('docs/schemas/config.json', jsonSchema(configSchema, 'config'));
generated.set('docs/configuration.md', configurationPage());
generated.set('docs/errors.md', errorsPage());
generated.set('docs/metrics.md', metricsPage());

const checking = process.argv.includes('--check');
const stale = [...generated].filter(
  ([path, text]) => !existsSync(path) || readFileSync(path, 'utf8') !== text,
);
for (const [path, text] of checking ? [] : stale) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
console.log(`${generated.size} files, ${stale.length} ${checking ? 'stale' : 'written'}`);
if (checking && stale.length > 0) {
  console.log(`stale: ${stale.map(([path]) => path).join(', ')}\nrun: npm run schema`);
  process.exitCode = 1;
}

function jsonSchema(schema: z.ZodType, title: string): string {
  return `${JSON.stringify({ title, ...z.toJSONSchema(schema, { io: 'input' }) }, null, 2)}\n`;
}

function configurationPage(): string {
  const root = z.toJSONSchema(configSchema, { io: 'input' }) as Node;
  const rows = Object.entries(root.properties ?? {}).flatMap(([section, node]) =>
    rowsOf(section, node),
  );
  return page('Configuration', [
    'One YAML file for all parts, `/etc/sculptor/sculpt.yaml` or `--config FILE`; each part reads its own section. An empty file, or none, is whole: what',
    'has no default below is absent then, or must be given with what it belongs to. An unknown key is an error. JSON Schema: [schemas/config.json](schemas/config.json).',
    '',
    'An agent takes up a change of the file by itself, and at SIGHUP, unless its standard error is a terminal: there SIGHUP means',
    'that the terminal is gone, and every part that runs in it stops as it does at SIGINT. A file that is wrong, empty or gone changes nothing.',
    '`sculpt engine` and `sculpt sculptor` read theirs when they start; SIGHUP stops them as SIGINT does, with or without a terminal.',
    '',
    'What `sculpt settings` (or `PUT /settings`) changes holds until the agent is started again, or takes up a file with other settings in its',
    'section `agent`: these then replace all that was set live, and the agent says what (name, old → new). A change elsewhere in the file, or SIGHUP',
    'alone, leaves it. To keep a setting, write it into the file. What can be changed so is what `sculpt settings` shows; the rest of `agent`, `sockets` and `nice` hold',
    'from the start: a file that changes one of them too is not taken, and the agent says which.',
    '',
    '| key | default | allowed | effect |',
    '| --- | --- | --- | --- |',
    ...rows,
  ]);
}

function rowsOf(path: string, node: Node): string[] {
  if (node.properties)
    return Object.entries(node.properties).flatMap(([key, child]) =>
      rowsOf(`${path}.${key}`, child),
    );
  const own = `| \`${path}\` | ${node.default === undefined ? '' : `\`${JSON.stringify(node.default)}\``} | ${allowed(node)} | ${node.description ?? ''} |`;
  const items = node.items?.properties ? rowsOf(`${path}[]`, node.items) : [];
  return [own, ...items];
}

function allowed(node: Node): string {
  if (node.enum) return node.enum.map(value => `\`${value}\``).join(', ');
  if (node.anyOf) return node.anyOf.map(allowed).join(' or ');
  if (node.minimum !== undefined || node.maximum !== undefined)
    return `${node.minimum ?? ''} … ${wide(node.maximum)}`;
  return node.type === 'array'
    ? `list of ${node.items?.properties ? 'maps' : allowed(node.items ?? {})}`
    : (node.type ?? '');
}

/** Bounds that only say "a safe integer" are no bounds to a reader. */
function wide(maximum: number | undefined): string {
  return maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER ? '' : String(maximum);
}

function errorsPage(): string {
  return page('Errors', [
    'Every error that is foreseen names a code of this table, what was met, where, and what was wanted. One that is not is a defect: a command says `unexpected`, a part that was asked answers',
    '`INTERNAL`, and `sculptor.agent.source.available` has the reason `unexpected`. Its reason `not_selected` is no error.',
    '',
    'A command exits 2 where its arguments, its configuration or a path are to be mended (usage; `CONFIG_…` but for the next two), 1 for every other error, with',
    '`CONFIG_NOT_RUNNING` and `CONFIG_REFUSED`, and where its answer is no (`doctor`: the main job cannot run; `status`: nothing runs; `restore`: something was not',
    'undone; `demo`: a scene failed); else 0. A daemon that is told to stop (SIGINT, SIGTERM) exits 0 once everything is given back, whatever its threads still wait for (a name server, say).',
    '',
    '| code | meaning |',
    '| --- | --- |',
    ...Object.entries(errorCodes).map(([code, text]) => `| \`${code}\` | ${text} |`),
  ]);
}

function metricsPage(): string {
  return page('Metrics', [
    '[queries.md](queries.md) has the questions that these answer, as PromQL.',
    '',
    'Cumulative by default; `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` in the environment makes it delta (`delta` or `lowmemory`, in any case of letters; a word that there is not is ignored, and warned of).',
    'No other variable `OTEL_…` is read: endpoints and intervals are of the configuration.',
    'Headline series, with [one of your own](custom-probes.md), go out every second, and every 200 ms for the worst contended instances; the rest every 10 s. Totals of an instance and series of its tasks are',
    'never to be summed.',
    '',
    'Time in what an agent tells does not go back: where the clock is set back, it goes on at nine tenths of its pace until the clock has caught up (rates look a',
    'ninth larger meanwhile); where it is set ahead, or the machine was suspended, it is followed at once. A clock that is set back by more than 10 s was',
    'wrong before: it is followed, which the agent says; start it again then, for series that began before begin in the future.',
    '',
    '| metric | unit | type | of | headline | profile | attributes | source | what |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...Object.entries(metrics).map(
      ([name, m]) =>
        `| \`${name}\` | ${m.unit} | ${m.type} | ${m.of} | ${m.headline ? 'yes' : ''} | ${toldFrom(name as MetricName)} | ${m.attributes.map(key => `\`${key}\``).join(', ')} | ${m.sources.join(', ')} | ${m.description} |`,
    ),
    '',
    `Names that do not begin with sculptor are those of the [semantic conventions](${schemaUrl}), which is the schema URL of each scope, of events too. Memory is told as`,
    'gauges, as the receivers of the collector do, where the conventions have sums that may fall.',
    'Series of tasks also carry `thread.id`, `process.pid`, `sculptor.task.start_ticks`, of hot ones `thread.name`, and of vCPU threads `sculptor.vcpu.index`.',
    'Counters and histograms are monotonic sums and cumulative unless told otherwise; gauges are what was last read.',
    'Which instance or host a series is of, its resource says ([below](#whose-series)).',
    'A cgroup that is made anew under its name, as of a service that is restarted, has the same series with a later start time, told once the last totals',
    'of the one before were, about a second later.',
    '',
    '## Whose series',
    '',
    'Attributes of the resource of each series that the agent tells of an instance, of a task (those of its instance), of the host and of itself (those of the host). The engine and the sculptor tell `service.name` (sculptor-engine, sculptor), `service.instance.id` and `host.id` of themselves.',
    'What guests say through the gate has `sculptor.origin` as well, and `sculptor.guest.*`: [security.md](security.md).',
    '',
    '| attribute | of an instance | of the host |',
    '| --- | --- | --- |',
    '| `service.name` | `sculptor-agent` | the same |',
    '| `service.instance.id` | `host.id`, and `sculptor.instance.id` right behind it | `host.id` |',
    "| `host.id` | /etc/machine-id, else the machine's UUID (DMI), else the name of the host | the same |",
    '| `host.name` | the name of the host | the same |',
    '| `sculptor.instance.id` | the UUID of a VM that has one, else the path of its cgroup, such as `/machine/web` | `host.id` |',
    '| `sculptor.instance.kind` | `vm`, `container` (64 hexadecimal digits are in the name of its cgroup) or `cgroup` | `host` |',
    '| `sculptor.instance.name` | the name of a VM (its UUID where it has no name), else the last part of the path | the name of the host |',
    '| `container.id` | those 64 digits, where they are in its path: also of cgroups within a container | |',
    '',
    '## Profiles and resolution',
    '',
    'The column *profile* says from which `agent.profile` on a metric is told (`minimal`, `default`, `full`); `agent.metrics` includes and excludes single',
    'ones, but not what is `always` told: the engine and the sculptor stand on the headline series, and what a part says of itself tells what was lost.',
    'A source of which nothing is told is not started, but for `kvm` while there are VMs of which it alone tells which threads run vCPUs. `udp` is started in profile `full` only. `sculpt settings`, `PUT /settings` of the agent and its configuration file change all of this live.',
    'A series that comes back goes on where the kernel counts; one whose source was stopped meanwhile begins anew, with a later start time.',
    '',
    '`agent.histograms` only chooses how the same cumulative, exact buckets are merged: a change moves no count and no start time. Prometheus sees the bounds',
    'that both resolutions share go on, and series of new bounds (`le`) begin with all that was counted so far: a quantile over a range in which the change lies',
    'is wrong, and right again once the range lies behind it. Between explicit and exponential the data point has another type: for a backend another stream',
    'with the same start time. Count and sum go on in each case; with delta temporality each delta is exact in the resolution it is told in.',
    '',
    'Prometheus has exponential histograms as native ones, where it scrapes protobuf (`--enable-feature=native-histograms`, `scrape_native_histograms`); by text it gets their count and sum, and no buckets.',
    'They have the name and labels that the explicit ones had: after a change of type the exporter of the collector shows either of the two and logs the other as an error, until what is told no more has',
    'expired (its `metric_expiration`, a minute in otel-collector/sculptor.yaml).',
    '',
    'A Performance Profile (`sculpt agent --profile-to FILE`, `GET /profiles`, [schemas/profile.json](schemas/profile.json)) has the same numbers as the',
    'export of the same reading, and what came of them within the window (`agent.profileWindowSeconds`).',
    '',
    '## What is lost',
    '',
    'Reasons of `sculptor.agent.events.lost`. Each source counts `SOURCE_failed_reads` too: readings of it that failed as a whole; what it told before stands.',
    'With `agent.driver: bpftrace` there are those of bpftrace, and none of sched; faults, block, net, udp and kvm have them too, with their name before (`block_map_full`), beside those of their own that a',
    'script can count. With `agent.btf` there are those of sched but `pair` and `withheld_switch`, and `task_storage` counts events of tasks past 65,536.',
    '',
    '| reason | of | what |',
    '| --- | --- | --- |',
    ...lossRows(),
    '',
    'Reasons of `sculptor.gate.dropped`; limits are keys of `agent.gate`, of each guest but for `maxGuests`. Those that never happened are not told, but for `connection_unknown` and `event_forbidden`.',
    '',
    '| reason | what |',
    '| --- | --- |',
    ...Object.entries(gateDrops).map(([reason, what]) => `| \`${reason}\` | ${what} |`),
    '',
    '## Sources',
    '',
    'A source that the kernel refuses is told by `sculptor.agent.source.available`, by `sculpt status` and by `sculpt doctor`; the others run.',
    'With `agent.driver: bpftrace` the source sched is bpf/sched.bt (tracepoints sched_switch, sched_wakeup, sched_wakeup_new, sched_migrate_task and sched_process_free, and a timer): it tells of instances what the libbpf probe tells, and of tasks',
    'what /proc has; `sculptor.task.throttled.time` (which `sculptor.task.runqueue.wait` then contains), `sculptor.task.offcpu.time`, `sculptor.task.migrations` and `sculptor.task.node_migrations` are not told. faults, block, net, udp, kvm and outliers are bpf/*.bt of those names, net and udp from Linux 6.3 on. They cost more (docs/decisions/0010-bpftrace.md).',
    'With `agent.btf`, on a kernel without BTF, the source sched is bpf/runqueue.bpf.c (raw_tp: sched_switch, sched_wakeup, sched_wakeup_new, sched_migrate_task), and tells `container.cpu.time`, `sculptor.runqueue.wait`, which then contains throttled time, `sculptor.runqueue.latency`, `sculptor.cpu.context_switches`,',
    '`sculptor.cpu.wakeups`, `sculptor.cpu.migrations` and `sculptor.cpu.node_migrations` (docs/decisions/0002-scheduler-probe.md).',
    'Where sched itself is refused (no BTF in the kernel nor in a file, `lockdown=confidentiality`, no CAP_BPF or CAP_PERFMON, no bpftrace where that is the driver) none of its metrics is there, nobody is contended, and `sculptor.agent.events` is absent: instances are then the cgroups that have had tasks of their own, looked for once before each export of details, and what other sources tell of them is told. It is tried again after a minute, then after twice as long each time, up to an hour; its series begin when it starts.',
    '',
    '| source | hook | cost |',
    '| --- | --- | --- |',
    ...Object.entries(sources).map(([name, { hook, cost }]) => `| ${name} | ${hook} | ${cost} |`),
  ]);
}

function lossRows(): string[] {
  // Who says it, where its name is not before the reason.
  const tellers: Readonly<Record<string, string>> = {
    scheduler: 'sched',
    bpftrace: 'bpftrace',
    agent: 'the agent',
  };
  return [
    ...Object.entries(losses).flatMap(([who, reasons]) =>
      Object.entries(reasons).map(([reason, what]) => {
        const teller = tellers[who];
        return `| \`${teller === undefined ? `${who}_` : ''}${reason}\` | ${teller ?? who} | ${what} |`;
      }),
    ),
    '| `custom_…` | custom | The sums of what custom probes lost: [custom-probes.md](custom-probes.md). |',
  ];
}

function page(title: string, lines: string[]): string {
  return [
    `# ${title}`,
    '',
    '<!-- Generated from src/contract by `npm run schema`. -->',
    '',
    ...lines,
    '',
  ].join('\n');
}
