import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import type { LogEvent, ResourcePoints } from '../../../src/contract/telemetry.ts';
import { decodeLogs } from '../../../src/otlp/decode-logs.ts';
import { decodeMetrics } from '../../../src/otlp/decode-metrics.ts';
import { startOtlpServer } from '../../../src/otlp/server.ts';

/** The shipped agent as the lab's host has it, with details every 2 s, and all that leaves it. */
export type HostAgent = {
  readonly resources: readonly ResourcePoints[];
  readonly records: readonly LogEvent[];
  readonly apiSocket: string;
  readonly stop: () => Promise<void>;
};

/** `gate`: as in the agent's configuration. */
export async function startHostAgent(folder: string, gate: object): Promise<HostAgent> {
  const resources: ResourcePoints[] = [];
  const records: LogEvent[] = [];
  const sink = await startOtlpServer({
    listen: `${folder}/sink.sock`,
    allowUids: [],
    maxMessageBytes: 16_000_000,
    queueRequests: 64,
    peerUid: () => 0,
    handlers: {
      metrics: async request => {
        resources.push(...decodeMetrics(request));
        return { kind: 'ok' };
      },
      logs: async request => {
        records.push(...decodeLogs(request));
        return { kind: 'ok' };
      },
    },
  });
  const apiSocket = `${folder}/agent-api.sock`;
  const endpoint = `unix://${folder}/sink.sock`;
  const config = { agent: { endpoint, apiSocket, detailIntervalSeconds: 2, gate } };
  writeFileSync(`${folder}/sculpt.yaml`, JSON.stringify(config));
  const args = ['agent', '--config', `${folder}/sculpt.yaml`];
  const agent = spawn('/checkout/bin/sculpt', args, { stdio: ['ignore', 'inherit', 'inherit'] });
  return {
    resources,
    records,
    apiSocket,
    stop: async () => {
      agent.kill('SIGKILL');
      await sink.stop();
    },
  };
}
