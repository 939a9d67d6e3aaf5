import * as z from 'zod';
import type { ConnectedAgent } from '../agent/connected-agent.ts';
import type { ApiRoute } from '../api/server.ts';
import { ConfigError } from '../contract/errors.ts';
import { type Mode, modeSchema } from '../contract/policy.ts';
import type { Engine } from '../pae/engine.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';
import type { Sculptor } from '../sculptor/sculptor.ts';

/** Body of `POST /mode` and `POST /stamp`. */
export const modeBodySchema = z.strictObject({ mode: modeSchema });

/** Body of `PUT /settings`: what is given is checked with what holds. */
const settingsBodySchema = z.record(z.string(), z.unknown());

export function agentRoutes(
  agent: Pick<ConnectedAgent, 'status' | 'settings' | 'change' | 'profiles'>,
): ApiRoute[] {
  return [
    { method: 'GET', path: '/status', run: () => agent.status() },
    { method: 'GET', path: '/settings', run: () => agent.settings() },
    {
      method: 'PUT',
      path: '/settings',
      body: settingsBodySchema,
      run: ({ body }) => agent.change(body as Record<string, unknown>),
    },
    { method: 'GET', path: '/profiles', run: () => agent.profiles.all() },
    {
      method: 'GET',
      path: '/profiles/:id',
      run: ({ params }) => {
        const id = params['id'] ?? '';
        const profile = agent.profiles.of(id);
        if (profile) return profile;
        throw new ConfigError(
          'CONFIG_REFUSED',
          `${id}: no instance of the last reading has this id; /profiles has all`,
        );
      },
    },
  ];
}

export function engineRoutes(
  engine: Pick<Engine, 'status' | 'recommendations' | 'verdicts'>,
): ApiRoute[] {
  return [
    { method: 'GET', path: '/status', run: () => engine.status() },
    { method: 'GET', path: '/recommendations', run: () => engine.recommendations() },
    { method: 'GET', path: '/verdicts', run: () => engine.verdicts() },
  ];
}

export function sculptorRoutes(
  sculptor: Pick<Sculptor, 'status' | 'actions' | 'policy' | 'approve' | 'setCeiling'>,
): ApiRoute[] {
  return [
    { method: 'GET', path: '/status', run: () => sculptor.status() },
    { method: 'GET', path: '/actions', run: () => sculptor.actions() },
    { method: 'GET', path: '/policy', run: () => sculptor.policy() },
    {
      method: 'POST',
      path: '/approve/:id',
      run: ({ params }) => sculptor.approve(params['id'] ?? ''),
    },
    {
      method: 'POST',
      path: '/mode',
      body: modeBodySchema,
      run: ({ body }) => sculptor.setCeiling((body as { mode: Mode }).mode),
    },
  ];
}

export function pipelineRoutes(
  pipeline: Pick<Pipeline, 'mode' | 'setMode' | 'counters'>,
): ApiRoute[] {
  return [
    {
      method: 'GET',
      path: '/status',
      run: () => ({ mode: pipeline.mode(), counters: pipeline.counters() }),
    },
    {
      method: 'POST',
      path: '/stamp',
      body: modeBodySchema,
      run: ({ body }) => pipeline.setMode((body as { mode: Mode }).mode),
    },
  ];
}
