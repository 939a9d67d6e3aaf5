import { readFileSync, statSync } from 'node:fs';
import { parse } from 'yaml';
import { type Config, configSchema } from '../contract/config.ts';
import { ConfigError } from '../contract/errors.ts';
import { explainIssue } from '../contract/explain-issue.ts';

export const defaultConfigPath = '/etc/sculptor/sculpt.yaml';

/**
 * The configuration, complete with defaults. Without a path the default file counts where it is there.
 * @throws ConfigError CONFIG_UNREADABLE, CONFIG_INVALID (which names every key that is wrong, what came and what was wanted)
 */
export function loadConfig(path?: string): Config {
  const text = readConfigText(path);
  return text === null ? configSchema.parse({}) : parseConfig(text, path ?? defaultConfigPath);
}

/**
 * The same of a file when it has changed. One that is empty by then says no more than one that is gone: a shell empties a file before
 * the program runs that is to write it (`… > FILE`).
 * @throws ConfigError as `loadConfig`
 */
export function reloadConfig(path: string): Config {
  const text = readConfigText(path) ?? '';
  if (text.trim() !== '') return parseConfig(text, path);
  throw unreadable(path, 'got an empty file; {} in it says that defaults are wanted');
}

const words: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EISDIR: 'got a folder, wanted a file',
  EACCES: 'this user may not read it (EACCES)',
};

function readConfigText(path: string | undefined): string | null {
  const file = path ?? defaultConfigPath;
  try {
    // An agent reads it twice before it runs, and a pipe is empty by then: defaults, of which nobody would know.
    if (statSync(file).isFIFO()) throw unreadable(file, 'got a pipe, wanted a file');
    return readFileSync(file, 'utf8');
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    if (path === undefined && code === 'ENOENT') return null;
    throw unreadable(file, words[code ?? ''] ?? String(code), cause);
  }
}

function unreadable(path: string, why: string, cause?: unknown): ConfigError {
  return new ConfigError('CONFIG_UNREADABLE', `${path}: ${why}`, { path }, cause);
}

/** @throws ConfigError CONFIG_UNREADABLE when it is not YAML, CONFIG_INVALID */
export function parseConfig(text: string, path: string): Config {
  const values = parseYaml(text, path) ?? {};
  const result = configSchema.safeParse(values);
  if (result.success) return result.data;
  const sentences = result.error.issues.flatMap(issue => explainIssue(issue, values));
  throw new ConfigError(
    'CONFIG_INVALID',
    `${path}: ${sentences.join('; ')}`,
    { path },
    result.error,
  );
}

function parseYaml(text: string, path: string): unknown {
  try {
    return parse(text) as unknown;
  } catch (cause) {
    const [said = 'not YAML'] = String((cause as Error).message).split('\n');
    // The parser's advice is for who calls it.
    const line = said.replace('; please use YAML.parseAllDocuments()', ', wanted one');
    throw unreadable(path, line.replace(/:$/, ''), cause);
  }
}
