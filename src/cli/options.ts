import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { Config } from '../contract/config.ts';
import { defaultConfigPath, loadConfig, reloadConfig } from './config-file.ts';
import { type ConfigSource, lookAt } from './follow-config.ts';
import { inRunDir } from './run-dir.ts';

/** Options that every command has which needs the configuration. */
export type CommonOptions = { readonly config?: string; readonly runDir?: string };

/** Adds `--config` and `--run-dir`. */
export function withCommonOptions(command: Command): Command {
  return command
    .option('--config <file>', `configuration (default: ${defaultConfigPath} where it is there)`)
    .option(
      '--run-dir <folder>',
      'folder for the unix sockets that the configuration, or its defaults, have in /run/sculptor',
    );
}

/** @throws ConfigError */
export function configOf(options: CommonOptions): Config {
  return inRunDirOf(options, loadConfig(options.config));
}

function inRunDirOf({ runDir }: CommonOptions, config: Config): Config {
  return runDir === undefined ? config : inRunDir(config, resolve(runDir));
}

/**
 * Where `configOf` reads, and how to do it again: by then a file that is not there, also the default one, or is empty, is an error,
 * since it does not say that defaults are wanted. Made before `configOf`, so that no change after it goes unnoticed.
 */
export function configSourceOf(options: CommonOptions): ConfigSource {
  const path = options.config ?? defaultConfigPath;
  return { path, load: () => inRunDirOf(options, reloadConfig(path)), look: lookAt(path) };
}
