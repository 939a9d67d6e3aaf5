import type { Command } from 'commander';
import type { Config } from '../../contract/config.ts';
import { ConfigError } from '../../contract/errors.ts';
import type { Running } from '../../contract/ports.ts';
import { bpfCapabilities, ownLacking } from '../../linux/capabilities.ts';
import { hostRoots } from '../../linux/roots.ts';
import { readPrivateKey, readPublicKeys } from '../../otlp/signing.ts';
import { isSecondLife, keepOnly } from '../least-privilege.ts';
import { type CommonOptions, configOf, configSourceOf, withCommonOptions } from '../options.ts';
import type { PartOptions } from '../parts.ts';
import { raisePriority } from '../priority.ts';
import { requirePrivilege } from '../privilege.ts';
import { outliveHangups, sayOnStderr, untilStopped } from '../run-until.ts';

/** Loaded when a daemon starts: the commands that only ask need neither gRPC nor ONNX. */
type PartsModule = typeof import('../parts.ts');

type Daemon = {
  readonly name: string;
  readonly description: string;
  /** Says at once what it cannot do without, and gives up what it does not need. */
  readonly prepare?: (config: Config, options: DaemonOptions) => Promise<void> | void;
  /** It takes up its configuration again at SIGHUP. */
  readonly reloads?: true;
  /** It may be ended while it is starting, too: of all that it holds by then the kernel lets go. */
  readonly endsWhileStarting?: true;
  /** Options of its own. */
  readonly withOptions?: (command: Command) => Command;
  readonly start: (
    parts: PartsModule,
    given: PartOptions,
    options: DaemonOptions,
  ) => Promise<Running>;
};

type DaemonOptions = CommonOptions & { readonly profileTo?: string; readonly user?: string };

const daemons: readonly Daemon[] = [
  {
    name: 'agent',
    description: 'run the agent alone: observes this host through eBPF',
    prepare: prepareAgent,
    reloads: true,
    // It may wait for bpftrace, for a minute.
    endsWhileStarting: true,
    withOptions: command =>
      command
        .option(
          '--profile-to <file>',
          'append the Performance Profile of each instance to this file as JSON lines; - is standard output',
        )
        .option('--user <user>', 'become this user (name or uid), instead of agent.user'),
    start: (parts, given, { profileTo }) =>
      parts.runAgent(parts.createFrugalContext('agent', given), profileTo),
  },
  {
    name: 'engine',
    description: 'run the engine alone: forecasts and recommends; needs no privileges',
    start: startSigningEngine,
  },
  {
    name: 'sculptor',
    description: 'run the sculptor alone: applies, verifies, gives back',
    prepare: () => requirePrivilege('sculptor'),
    start: (parts, given) =>
      parts.runSculptor(
        parts.createContext(given),
        readPublicKeys(given.config.sculptor.trustedEngines),
      ),
  },
];

/** `sculpt agent`, `engine` and `sculptor`: one part each, speaking OTLP to whatever the configuration names. */
export function addDaemons(program: Command): void {
  for (const daemon of daemons) {
    const command = program.command(daemon.name).description(daemon.description);
    daemon.withOptions?.(command);
    withCommonOptions(command).action(async (options: DaemonOptions) => {
      if (daemon.reloads) outliveHangups();
      const source = configSourceOf(options);
      const config = configOf(options);
      // Afterwards it may not.
      if (!isSecondLife())
        raisePriority(config.nice, (level, text) => sayOnStderr(level, `${daemon.name}: ${text}`));
      await daemon.prepare?.(config, options);
      const stopped = untilStopped({ reloads: daemon.reloads === true });
      const parts = await import('../parts.ts');
      const start = daemon.start(parts, { config, say: sayOnStderr, source }, options);
      const running = await (daemon.endsWhileStarting
        ? Promise.race([start, stopped.then(() => null)])
        : start);
      sayOnStderr('info', `${daemon.name}: stopping after ${await stopped}`);
      await running?.stop();
    });
  }
}

/** @throws ConfigError, KernelInterfaceError as `keepOnly` */
async function prepareAgent({ agent }: Config, options: DaemonOptions): Promise<void> {
  const { privilegesOf } = await import('../agent-privileges.ts');
  const wanted = privilegesOf(agent, options.user);
  if (wanted === null) {
    sayOnStderr('info', 'agent: keeps all its capabilities: bpftrace runs as root only');
  } else {
    keepOnly(wanted, (level, text) => sayOnStderr(level, `agent: ${text}`), [
      configSourceOf(options).path,
    ]);
  }
  const absent = ownLacking(hostRoots, bpfCapabilities);
  if (absent.length > 0)
    sayOnStderr(
      'warn',
      `agent: it needs root (or ${absent.join(', ')}) to ask the scheduler, and for all that BPF tells; only what is told without it is told`,
    );
}

function startSigningEngine(parts: PartsModule, given: PartOptions): Promise<Running> {
  const { privateKey } = given.config.engine;
  if (privateKey === undefined)
    throw new ConfigError(
      'CONFIG_KEYS_MISSING',
      'engine.privateKey: got nothing, wanted the PEM file of an Ed25519 key; `sculpt keys init` makes it',
    );
  return parts.runEngine(parts.createFrugalContext('engine', given), readPrivateKey(privateKey));
}
