import type { Config } from '../contract/config.ts';
import { ConfigError } from '../contract/errors.ts';

/** Where all sockets are by default. */
const defaultFolder = '/run/sculptor/';

/** What the kernel takes of a socket's path. */
const longestPathBytes = 107;

/**
 * The same configuration with this folder in place of /run/sculptor: every unix socket there, also one that an endpoint names, keeps its
 * name. What somebody has put elsewhere, and what is no unix socket, stays.
 * @throws ConfigError CONFIG_INVALID for a folder whose path leaves no room for their names
 */
export function inRunDir(config: Config, folder: string): Config {
  const sockets: string[] = [];
  const socket = (path: string): string => {
    if (!path.startsWith(defaultFolder)) return path;
    const moved = `${folder}/${path.slice(defaultFolder.length)}`;
    sockets.push(moved);
    return moved;
  };
  const endpoint = (url: string): string =>
    url.startsWith('unix://') ? `unix://${socket(url.slice('unix://'.length))}` : url;
  const { agent, pipeline, engine, sculptor } = config;
  const inFolder: Config = {
    ...config,
    agent: {
      ...agent,
      endpoint: endpoint(agent.endpoint),
      apiSocket: socket(agent.apiSocket),
      gate: {
        ...agent.gate,
        unix: agent.gate.unix.map(one => ({ ...one, path: socket(one.path) })),
      },
    },
    pipeline: {
      ...pipeline,
      listen: socket(pipeline.listen),
      apiSocket: socket(pipeline.apiSocket),
      engine: endpoint(pipeline.engine),
      sculptor: endpoint(pipeline.sculptor),
    },
    engine: {
      ...engine,
      endpoint: endpoint(engine.endpoint),
      listen: socket(engine.listen),
      apiSocket: socket(engine.apiSocket),
    },
    sculptor: {
      ...sculptor,
      endpoint: endpoint(sculptor.endpoint),
      listen: socket(sculptor.listen),
      apiSocket: socket(sculptor.apiSocket),
    },
  };
  mustFit(folder, sockets);
  return inFolder;
}

function mustFit(folder: string, sockets: readonly string[]): void {
  const over = Math.max(...sockets.map(bytesOf)) - longestPathBytes;
  if (over > 0)
    throw new ConfigError(
      'CONFIG_INVALID',
      `--run-dir: got ${bytesOf(folder)} bytes, wanted at most ${bytesOf(folder) - over}: the path of a socket has at most ${longestPathBytes}`,
      { folder },
    );
}

function bytesOf(path: string): number {
  return Buffer.byteLength(path);
}
