import type { Command } from 'commander';
import { ConfigError } from '../../contract/errors.ts';
import type { Running } from '../../contract/ports.ts';
import { readPrivateKey, readPublicKeys } from '../../otlp/signing.ts';
import { type CommonOptions, configOf, withCommonOptions } from '../options.ts';
import type { PartContext } from '../parts.ts';
import { raisePriority } from '../priority.ts';
import { requirePrivilege } from '../privilege.ts';
import { sayOnStderr, untilStopped } from '../run-until.ts';

/** Loaded when a daemon starts: the commands that only ask need neither gRPC nor ONNX. */
type PartsModule = typeof import('../parts.ts');

type Daemon = {
  readonly name: string;
  readonly description: string;
  readonly privileged: boolean;
  readonly start: (parts: PartsModule, context: PartContext) => Promise<Running>;
};

const daemons: readonly Daemon[] = [
  {
    name: 'agent',
    description: 'run the agent alone: observes this host through eBPF',
    privileged: true,
    start: (parts, context) => parts.runAgent(context),
  },
  {
    name: 'engine',
    description: 'run the engine alone: forecasts and recommends; needs no privileges',
    privileged: false,
    start: startSigningEngine,
  },
  {
    name: 'sculptor',
    description: 'run the sculptor alone: applies, verifies, gives back',
    privileged: true,
    start: (parts, context) =>
      parts.runSculptor(context, readPublicKeys(context.config.sculptor.trustedEngines)),
  },
];

/** `sculpt agent`, `engine` and `sculptor`: one part each, speaking OTLP to whatever the configuration names. */
export function addDaemons(program: Command): void {
  for (const daemon of daemons) {
    const command = program.command(daemon.name).description(daemon.description);
    withCommonOptions(command).action(async (options: CommonOptions) => {
      const config = configOf(options);
      if (daemon.privileged) requirePrivilege(daemon.name);
      raisePriority();
      const stopped = untilStopped();
      const parts = await import('../parts.ts');
      const running = await daemon.start(parts, parts.createContext(config, sayOnStderr));
      sayOnStderr('info', `${daemon.name}: stopping after ${await stopped}`);
      await running.stop();
    });
  }
}

function startSigningEngine(parts: PartsModule, context: PartContext): Promise<Running> {
  const { privateKey } = context.config.engine;
  if (privateKey === undefined)
    throw new ConfigError(
      'CONFIG_KEYS_MISSING',
      'engine.privateKey: got nothing, wanted the PEM file of an Ed25519 key; `sculpt keys init` makes it',
    );
  return parts.runEngine(context, readPrivateKey(privateKey));
}
