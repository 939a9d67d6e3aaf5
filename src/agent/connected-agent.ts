import { hostname } from 'node:os';
import { dirname } from 'node:path';
import type { AgentConfig } from '../contract/config.ts';
import type { Running } from '../contract/ports.ts';
import { type Agent, type AgentOptions, type AgentStatus, startAgent } from './agent.ts';
import type { Gate, GateOptions, GateStatus } from './gate/gate.ts';
import { startTelling } from './gate/tell.ts';
import { createLiveSettings, type LiveSettings } from './live-settings.ts';
import { startVsockUplink } from './vsock-uplink.ts';

/** `gate` is null where nothing listens for guests. */
export type ConnectedStatus = AgentStatus & { readonly gate: GateStatus | null };

export type ConnectedAgent = Running &
  LiveSettings & {
    readonly status: () => ConnectedStatus;
    readonly settings: Agent['settings'];
    readonly profiles: Agent['profiles'];
  };

/**
 * The agent, with the way out over AF_VSOCK where its endpoint is one (it runs in a guest), and the gate for its own
 * guests where one is configured. What was started stops again when the rest cannot start.
 * @throws what `startAgent`, `startGate` and `startVsockUplink` throw
 */
export async function startConnectedAgent(options: AgentOptions): Promise<ConnectedAgent> {
  const { native, roots, clock, say } = options;
  const started: Running[] = [];
  const stop = async (): Promise<void> => {
    for (const part of started.splice(0).reverse()) await part.stop();
  };
  try {
    const config = await withUplink(options, started);
    const host = { hostId: options.hostId, hostName: hostname() };
    const { endpoint } = config;
    const gate = isOpen(config.gate)
      ? await openGate({ config: config.gate, endpoint, host, native, roots, clock, say })
      : null;
    if (gate) started.push(gate);
    const agent = await startAgent({ ...options, config, ...(gate ? { guests: gate.view } : {}) });
    started.push(agent);
    const intervalSeconds = () => agent.settings().detailIntervalSeconds;
    if (gate) started.push(startTelling({ gate, endpoint, host, intervalSeconds, clock }));
    return {
      status: () => ({ ...agent.status(), gate: gate?.status() ?? null }),
      settings: agent.settings,
      ...createLiveSettings({ config: options.config, agent, say }),
      profiles: agent.profiles,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A server of gRPC is held in memory by those alone who have guests. */
async function openGate(options: GateOptions): Promise<Gate> {
  const { startGate } = await import('./gate/gate.ts');
  return startGate(options);
}

async function withUplink(
  { config, native, clock, say }: AgentOptions,
  started: Running[],
): Promise<AgentConfig> {
  if (!config.endpoint.startsWith('vsock:')) return config;
  const uplink = await startVsockUplink({
    endpoint: config.endpoint,
    folder: dirname(config.apiSocket),
    native,
    clock,
    say,
  });
  started.push(uplink);
  say('info', `agent: ${config.endpoint} by way of ${uplink.endpoint}`);
  return { ...config, endpoint: uplink.endpoint };
}

function isOpen({ vsock, unix, tcp }: AgentConfig['gate']): boolean {
  return vsock !== undefined || unix.length > 0 || tcp !== undefined;
}
