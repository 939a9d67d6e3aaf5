import * as z from 'zod';
import { type AgentSettings, agentSettings, agentSettingsSchema } from './agent-settings.ts';
import { type AgentConfig, agentConfigSchema } from './config.ts';
import { ConfigError } from './errors.ts';
import { explainIssue } from './explain-issue.ts';

/** Where what is wrong is looked up: keys that can change, as the configuration file names them. */
const sectionSchema = z.object({ agent: agentSettingsSchema });

const restart = 'cannot change while the agent runs: the old value holds until it is started again';

/**
 * The settings with some of them changed; also of a group of settings (`metrics`, `outliers`) only what is given.
 * @throws ConfigError CONFIG_REFUSED for what holds from the start, CONFIG_INVALID, which names the key, what came and what was wanted
 */
export function changeSettings(
  current: AgentSettings,
  change: Readonly<Record<string, unknown>>,
): AgentSettings {
  const fixed = Object.keys(change).filter(isFixed);
  if (fixed.length > 0) throw refused(fixed);
  const held: Readonly<Record<string, unknown>> = current;
  const merged = Object.entries(change).map(([key, value]) => {
    const before = held[key];
    return [key, isGroup(before) && isGroup(value) ? { ...before, ...value } : value];
  });
  const wanted = { ...held, ...Object.fromEntries(merged) };
  const result = agentSettingsSchema.safeParse(wanted);
  if (result.success) return result.data;
  const sentences = result.error.issues.flatMap(issue =>
    explainIssue({ ...issue, path: ['agent', ...issue.path] }, { agent: wanted }, sectionSchema),
  );
  throw new ConfigError('CONFIG_INVALID', sentences.join('; '), {}, result.error);
}

/**
 * The settings of a configuration that was loaded again.
 * @throws ConfigError CONFIG_REFUSED when it differs from the running one in what holds from the start
 */
export function settingsOfReload(running: AgentConfig, loaded: AgentConfig): AgentSettings {
  const keys = Object.keys(agentConfigSchema.shape) as (keyof AgentConfig)[];
  const changed = keys.filter(
    key => isFixed(key) && JSON.stringify(running[key]) !== JSON.stringify(loaded[key]),
  );
  if (changed.length > 0) throw refused(changed);
  return settingsOf(loaded);
}

export function settingsOf(config: AgentConfig): AgentSettings {
  const entries = Object.entries(config).filter(([key]) => !isFixed(key));
  return agentSettingsSchema.parse(Object.fromEntries(entries));
}

/** One setting that changed: its name (`metrics.exclude`), what it was and what it is, as JSON. */
export type SettingChange = { readonly name: string; readonly from: string; readonly to: string };

/** In what settings differ; those of a group (`metrics`, `outliers`) one by one. */
export function settingChanges(before: AgentSettings, after: AgentSettings): SettingChange[] {
  const was = flat(before);
  return flat(after).flatMap(([name, to], i) => {
    const from = was[i]?.[1] ?? '';
    return from === to ? [] : [{ name, from, to }];
  });
}

/** Parsed settings have all keys, in the order of the schema. */
function flat(settings: object, prefix = ''): [string, string][] {
  return Object.entries(settings).flatMap(([key, value]): [string, string][] =>
    isGroup(value) ? flat(value, `${prefix}${key}.`) : [[`${prefix}${key}`, JSON.stringify(value)]],
  );
}

function isGroup(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isFixed(key: string): boolean {
  return Object.hasOwn(agentConfigSchema.shape, key) && !Object.hasOwn(agentSettings, key);
}

function refused(keys: readonly string[]): ConfigError {
  const names = keys.map(key => `agent.${key}`).join(', ');
  return new ConfigError('CONFIG_REFUSED', `${names} ${restart}`, { keys });
}
