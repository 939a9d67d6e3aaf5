import * as z from 'zod';
import { requestApi } from '../api/client.ts';
import { actionSchema } from '../contract/action.ts';
import { agentSettingsSchema } from '../contract/agent-settings.ts';
import type { Config } from '../contract/config.ts';
import { ConfigError } from '../contract/errors.ts';
import { type Mode, modeSchema, policySchema } from '../contract/policy.ts';
import { recommendationSchema } from '../contract/recommendation.ts';

const counts = z.record(z.string(), z.number());

/** A guest that the agent's gate has seen. */
const guestSchema = z.looseObject({
  instance: z.looseObject({ id: z.string(), name: z.string() }),
  via: z.string(),
  connections: z.number(),
  records: z.number(),
  dropped: counts,
  lastFailure: z.string().nullable(),
});
export type Guest = z.infer<typeof guestSchema>;

export const agentStatusSchema = z.looseObject({
  instances: z.number(),
  contended: z.array(z.string()),
  events: z.number().nullable(),
  lost: counts,
  exports: z.looseObject({
    delivered: z.number(),
    lost: counts,
    lastFailure: z.string().nullable(),
  }),
  sources: z.record(z.string(), z.string()).default({}),
  customProbes: z.record(z.string(), z.string()).default({}),
  /** Null where nothing listens for guests. */
  gate: z
    .looseObject({ guests: z.array(guestSchema), dropped: counts })
    .nullable()
    .default(null),
});

export const sculptorStatusSchema = z.looseObject({
  mode: modeSchema,
  ceiling: modeSchema,
  heartbeatAgeSeconds: z.number().nullable(),
  running: z.number(),
  leftovers: z.number().default(0),
  parked: z.number(),
  instances: z.number(),
});

export const engineStatusSchema = z.looseObject({
  model: z.looseObject({ name: z.string(), version: z.string() }),
  instances: z.number(),
  lastFailure: z.string().nullable(),
});

export const pipelineStatusSchema = z.looseObject({ mode: modeSchema, counters: counts });

/** What the engine thinks of one instance now, and why. */
export const verdictSchema = z.looseObject({
  instance: z.string(),
  state: z.string(),
  why: z.string(),
  usedCores: z.number(),
  waitCores: z.number(),
  demandCores: z.number(),
  supplyCores: z.number(),
});
export type Verdict = z.infer<typeof verdictSchema>;

/**
 * The questions that people ask the parts, over the parts' own sockets. All throw ConfigError CONFIG_NOT_RUNNING, and
 * CONFIG_REFUSED, also where a part has not answered after `timeoutSeconds`.
 */
export function askParts(config: Config, timeoutSeconds = 10) {
  const { agent, engine, sculptor, pipeline } = config;
  const get = <T>(socket: string, path: string, schema: z.ZodType<T>, startedBy: string) =>
    requestApi(socket, 'GET', path, {
      schema,
      startedBy: `sculpt up\` or \`${startedBy}`,
      timeoutSeconds,
    });
  const post = (socket: string, path: string, body?: unknown) =>
    requestApi(socket, 'POST', path, {
      schema: z.unknown(),
      startedBy: 'sculpt up` or `sculpt sculptor',
      timeoutSeconds,
      ...(body === undefined ? {} : { body }),
    });
  return {
    agentStatus: () => get(agent.apiSocket, '/status', agentStatusSchema, 'sculpt agent'),
    agentSettings: () => get(agent.apiSocket, '/settings', agentSettingsSchema, 'sculpt agent'),
    changeAgentSettings: (change: Readonly<Record<string, unknown>>) =>
      requestApi(agent.apiSocket, 'PUT', '/settings', {
        body: change,
        schema: agentSettingsSchema,
        startedBy: 'sculpt up` or `sculpt agent',
      }),
    engineStatus: () => get(engine.apiSocket, '/status', engineStatusSchema, 'sculpt engine'),
    sculptorStatus: () =>
      get(sculptor.apiSocket, '/status', sculptorStatusSchema, 'sculpt sculptor'),
    pipelineStatus: () => get(pipeline.apiSocket, '/status', pipelineStatusSchema, 'sculpt up'),
    verdicts: () => get(engine.apiSocket, '/verdicts', z.array(verdictSchema), 'sculpt engine'),
    recommendations: () =>
      get(engine.apiSocket, '/recommendations', z.array(recommendationSchema), 'sculpt engine'),
    actions: () => get(sculptor.apiSocket, '/actions', z.array(actionSchema), 'sculpt sculptor'),
    policy: () => get(sculptor.apiSocket, '/policy', policySchema, 'sculpt sculptor'),
    approve: (id: string) => post(sculptor.apiSocket, `/approve/${encodeURIComponent(id)}`),
    setCeiling: (mode: Mode) => post(sculptor.apiSocket, '/mode', { mode }),
    setStamp: (mode: Mode) => post(pipeline.apiSocket, '/stamp', { mode }),
  };
}

export type Parts = ReturnType<typeof askParts>;

/** The answer, or null when the part does not run. Anything else that goes wrong is thrown. */
export async function orNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ConfigError && error.code === 'CONFIG_NOT_RUNNING') return null;
    throw error;
  }
}
