import { readFileSync } from 'node:fs';
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

const words: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EISDIR: 'got a folder, wanted a file',
  EACCES: 'this user may not read it (EACCES)',
};

function readConfigText(path: string | undefined): string | null {
  try {
    return readFileSync(path ?? defaultConfigPath, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (path === undefined && code === 'ENOENT') return null;
    throw new ConfigError(
      'CONFIG_UNREADABLE',
      `${path ?? defaultConfigPath}: ${words[code ?? ''] ?? code}`,
      { path },
      cause,
    );
  }
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
    throw new ConfigError(
      'CONFIG_UNREADABLE',
      `${path}: ${line.replace(/:$/, '')}`,
      { path },
      cause,
    );
  }
}
