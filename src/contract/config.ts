import * as z from 'zod';
import { agentSettings } from './agent-settings.ts';
import { customProbesSchema } from './custom-probes-config.ts';
import { gateConfigSchema } from './gate-config.ts';
import { policySchema } from './policy.ts';

const socketPath = z.string().min(1).max(107);
/** What the commands ask a part at. */
const apiSocketOf = (part: string) =>
  socketPath
    .default(`/run/sculptor/${part}-api.sock`)
    .describe(
      `Unix socket (path of at most 107 bytes) at which \`sculpt status\` and other commands ask the ${part}.`,
    );
const listenOf = (part: string, what: string) =>
  socketPath
    .default(`/run/sculptor/${part}.sock`)
    .describe(`Unix socket (path of at most 107 bytes) of the ${part} for OTLP/gRPC: ${what}.`);
const unreachable =
  'wanted http(s)://host:port with a host that can be one, and a port up to 65535';
const endpoint = z
  .string()
  .regex(/^(unix:\/\/\/.+|https?:\/\/.+)$/, 'wanted unix:///path or http(s)://host:port')
  .refine(isReachable, unreachable);

/** AF_VSOCK as well: from inside a guest the host is context id 2. */
const agentEndpoint = z
  .string()
  .regex(
    /^(unix:\/\/\/.+|https?:\/\/.+|vsock:\/\/\d{1,10}:\d{1,10})$/,
    'wanted unix:///path, http(s)://host:port or vsock://cid:port',
  )
  .refine(isReachable, unreachable);

export const listenSchema = z.strictObject({
  allowUsers: z
    .array(z.union([z.string().min(1), z.int().min(0)]))
    .default(['root'])
    .describe(
      'Users (name or uid) whose processes may connect to the unix sockets; the own user always may. A part that runs without the native addon can admit root and the own user only, and refuses to start with others.',
    ),
  maxMessageBytes: z
    .int()
    .min(4096)
    .max(268_435_456)
    .default(16_777_216)
    .describe('Largest OTLP request that is taken.'),
  queueRequests: z
    .int()
    .min(1)
    .max(65_536)
    .default(256)
    .describe('Requests that may wait; a full queue answers UNAVAILABLE.'),
});

export const agentConfigSchema = z.strictObject({
  endpoint: agentEndpoint
    .default('unix:///run/sculptor/pipeline.sock')
    .describe(
      'Where metrics and events go (OTLP/gRPC, with no headers of your own); https trusts the authorities of Node, and those in the PEM file that NODE_EXTRA_CA_CERTS names in the environment; in a guest vsock://2:PORT is the gate of its host.',
    ),
  gate: gateConfigSchema.prefault({}),
  apiSocket: apiSocketOf('agent'),
  placementIntervalSeconds: z
    .number()
    .min(1)
    .max(3600)
    .default(60)
    .describe('Longest time between two placement or topology events, to within a twentieth.'),
  maxInstances: z
    .int()
    .min(16)
    .max(65_536)
    .default(4096)
    .describe('Entries in the kernel map of instances; more are counted as lost.'),
  driver: z
    .enum(['libbpf', 'bpftrace'])
    .default('libbpf')
    .describe(
      'Who asks the kernel. bpftrace does it by scripts (bpf/*.bt), each a process of some 100 MB: the scheduler, and the sources faults, block, net, udp, kvm and outliers, at a higher cost (docs/decisions/0010-bpftrace.md says what they lack and cost); with it `sculpt agent` runs where the native addon cannot be built.',
    ),
  btf: z
    .string()
    .min(1)
    .optional()
    .describe(
      'File with the BTF of the very kernel that runs, for one that has none of its own (`/sys/kernel/btf/vmlinux`; where that is there, this is not looked at): of BTFHub, or `pahole --btf_encode_detached=FILE vmlinux`; `agent.user` must be able to read it. The scheduler is asked by raw tracepoints then, which tell of the run queue alone (docs/decisions/0002-scheduler-probe.md), and no other BPF source runs; with `driver: bpftrace` the scripts are run by it.',
    ),
  customProbes: customProbesSchema.prefault({}),
  user: z
    .union([z.string().regex(/^[\w.][\w.-]*\$?$/, 'wanted the name of a user'), z.int().min(0)])
    .optional()
    .describe(
      'User (name or uid) that `sculpt agent` becomes, with the groups of that user; absent: it stays who it is. Either way it keeps only the capabilities it needs (docs/privileges.md).',
    ),
  ...agentSettings,
});

export const engineConfigSchema = z.strictObject({
  listen: listenOf('engine', 'metrics and events'),
  endpoint: endpoint
    .default('unix:///run/sculptor/pipeline.sock')
    .describe(
      'Where recommendations, withdrawals and heartbeats go. otel-collector/sculptor.yaml wants them at `unix:///run/sculptor/engine-out.sock`, and drops them on the default, which is the socket of `sculpt up`.',
    ),
  apiSocket: apiSocketOf('engine'),
  model: z.string().min(1).optional().describe('Folder of the model; absent: the one that ships.'),
  privateKey: z
    .string()
    .min(1)
    .optional()
    .describe('PEM file of the Ed25519 key that signs; `sculpt keys init` makes it.'),
  stepSeconds: z.number().min(0.1).max(60).default(1).describe('Step of the fast clock.'),
  heartbeatSeconds: z.number().min(0.1).max(2).default(1).describe('Interval of heartbeats.'),
  leaseSeconds: z
    .number()
    .min(5)
    .max(3600)
    .default(60)
    .describe('Lease that a recommendation asks for.'),
  expirySeconds: z
    .number()
    .min(1)
    .max(600)
    .default(30)
    .describe('Until when a recommendation may be acted on.'),
  maxSeries: z
    .int()
    .min(16)
    .max(1_000_000)
    .default(20_000)
    .describe('Series kept; the least recent are dropped, and counted.'),
});

export const sculptorConfigSchema = z.strictObject({
  listen: listenOf('sculptor', 'recommendations, heartbeats and metrics'),
  endpoint: endpoint
    .default('unix:///run/sculptor/pipeline.sock')
    .describe('Where action and policy events go.'),
  apiSocket: apiSocketOf('sculptor'),
  journal: z
    .string()
    .min(1)
    .default('/var/lib/sculptor/journal.db')
    .describe('SQLite file: what was changed, and how to undo it.'),
  trustedEngines: z
    .array(z.string().min(1))
    .default([])
    .describe('PEM files of the Ed25519 public keys of engines; none: ConfigError.'),
  heartbeatTimeoutSeconds: z
    .number()
    .min(1)
    .max(60)
    .default(3)
    .describe('Without a heartbeat for this long no new action starts.'),
  modeLeaseSeconds: z
    .number()
    .min(5)
    .max(300)
    .default(15)
    .describe('Without a heartbeat for this long everything is restored.'),
  verify: z
    .strictObject({
      settleSeconds: z
        .number()
        .min(0)
        .max(60)
        .default(1)
        .describe('After an action nothing is measured for this long.'),
      minSamples: z.int().min(3).max(120).default(5).describe('Samples before the first decision.'),
      maxSeconds: z
        .number()
        .min(5)
        .max(600)
        .default(30)
        .describe('The decision is made at the latest now.'),
      alpha: z
        .number()
        .min(0.0001)
        .max(0.5)
        .default(0.05)
        .describe('Error probability of the sequential test.'),
    })
    .prefault({}),
  policy: policySchema.prefault({}),
});

export const pipelineConfigSchema = z.strictObject({
  listen: listenOf('pipeline', 'what all parts of `sculpt up` say'),
  engine: endpoint
    .default('unix:///run/sculptor/engine.sock')
    .describe('Where metrics and what agent and sculptor tell go: `engine.listen`.'),
  sculptor: endpoint
    .default('unix:///run/sculptor/sculptor.sock')
    .describe('Where metrics and what the engine tells go, with the stamp: `sculptor.listen`.'),
  apiSocket: apiSocketOf('pipeline'),
  mode: z
    .enum(['off', 'observe', 'approve', 'enforce'])
    .default('observe')
    .describe(
      'The stamp of the pipeline that `sculpt up` has, when it starts; what `sculpt mode` sets instead holds until it is started again.',
    ),
});

/** The configuration file: one for all parts; each reads its own section. Unknown keys are refused. */
export const configSchema = z.strictObject({
  nice: z
    .int()
    .min(-20)
    .max(19)
    .nullable()
    .default(-10)
    .describe(
      'Nice value that a part takes when it is started as root, with all its threads, and its session (autogroup) where it leads one, as a service does: it must get a CPU while others contend for it. null: it stays as it was started. Its bpftrace runs at 0 or above.',
    ),
  sockets: listenSchema.prefault({}),
  agent: agentConfigSchema.prefault({}),
  pipeline: pipelineConfigSchema.prefault({}),
  engine: engineConfigSchema.prefault({}),
  sculptor: sculptorConfigSchema.prefault({}),
});

export type Config = z.infer<typeof configSchema>;
export type ListenConfig = z.infer<typeof listenSchema>;
export type AgentConfig = z.infer<typeof agentConfigSchema>;
export type EngineConfig = z.infer<typeof engineConfigSchema>;
export type SculptorConfig = z.infer<typeof sculptorConfigSchema>;
export type PipelineConfig = z.infer<typeof pipelineConfigSchema>;

/** What looks like a URL may be none: a digit too many in the port is enough. */
function isReachable(endpoint: string): boolean {
  return !endpoint.startsWith('http') || URL.canParse(endpoint);
}
