import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import type { LogEvent, ResourcePoints } from '../../../src/contract/telemetry.ts';
import { startReceiver } from '../../support/receiver.ts';

/** The shipped agent as the lab's host has it, with details every 2 s, and all that leaves it. */
export type HostAgent = {
  readonly resources: readonly ResourcePoints[];
  readonly records: readonly LogEvent[];
  readonly apiSocket: string;
  readonly stop: () => Promise<void>;
};

/** `gate`: as in the agent's configuration. */
export async function startHostAgent(folder: string, gate: object): Promise<HostAgent> {
  const receiver = await startReceiver(`${folder}/sink.sock`);
  const apiSocket = `${folder}/agent-api.sock`;
  const endpoint = `unix://${folder}/sink.sock`;
  const config = { agent: { endpoint, apiSocket, detailIntervalSeconds: 2, gate } };
  writeFileSync(`${folder}/sculpt.yaml`, JSON.stringify(config));
  const args = ['agent', '--config', `${folder}/sculpt.yaml`];
  const agent = spawn('/checkout/bin/sculpt', args, { stdio: ['ignore', 'inherit', 'inherit'] });
  return {
    resources: receiver.resources,
    records: receiver.events,
    apiSocket,
    stop: async () => {
      agent.kill('SIGKILL');
      await receiver.stop();
    },
  };
}
