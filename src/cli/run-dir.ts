import type { Config } from '../contract/config.ts';
import { ConfigError } from '../contract/errors.ts';

/** The unix sockets of all parts in one folder. */
export function socketsIn(folder: string) {
  return {
    pipeline: `${folder}/pipeline.sock`,
    pipelineApi: `${folder}/pipeline-api.sock`,
    agentApi: `${folder}/agent-api.sock`,
    engine: `${folder}/engine.sock`,
    engineApi: `${folder}/engine-api.sock`,
    sculptor: `${folder}/sculptor.sock`,
    sculptorApi: `${folder}/sculptor-api.sock`,
  };
}

/** What the kernel takes of a socket's path. */
const longestPathBytes = 107;

/**
 * The same configuration with every socket in this folder.
 * @throws ConfigError CONFIG_INVALID for one whose path leaves no room for their names
 */
export function inRunDir(config: Config, folder: string): Config {
  const sockets = socketsIn(folder);
  const over = Math.max(...Object.values(sockets).map(bytesOf)) - longestPathBytes;
  if (over > 0)
    throw new ConfigError(
      'CONFIG_INVALID',
      `--run-dir: got ${bytesOf(folder)} bytes, wanted at most ${bytesOf(folder) - over}: the path of a socket has at most ${longestPathBytes}`,
      { folder },
    );
  const endpoint = `unix://${sockets.pipeline}`;
  return {
    ...config,
    agent: { ...config.agent, endpoint, apiSocket: sockets.agentApi },
    pipeline: {
      ...config.pipeline,
      listen: sockets.pipeline,
      apiSocket: sockets.pipelineApi,
      engine: `unix://${sockets.engine}`,
      sculptor: `unix://${sockets.sculptor}`,
    },
    engine: { ...config.engine, endpoint, listen: sockets.engine, apiSocket: sockets.engineApi },
    sculptor: {
      ...config.sculptor,
      endpoint,
      listen: sockets.sculptor,
      apiSocket: sockets.sculptorApi,
    },
  };
}

function bytesOf(path: string): number {
  return Buffer.byteLength(path);
}
