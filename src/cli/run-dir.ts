import type { Config } from '../contract/config.ts';

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

/** The same configuration with every socket in this folder. */
export function inRunDir(config: Config, folder: string): Config {
  const sockets = socketsIn(folder);
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
