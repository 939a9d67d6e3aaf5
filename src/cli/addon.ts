import type { Config } from '../contract/config.ts';
import { KernelInterfaceError } from '../contract/errors.ts';
import { absentNative, loadNative, type Native } from '../linux/native.ts';
import { notAdmittedByMode, type PeerUid } from '../otlp/unix-socket.ts';
import { uidsOf } from '../otlp/users.ts';

/** What parts get of the native addon. */
export type Addon = { readonly native: Native; readonly peerUid: PeerUid };

/** The same for a part that runs without it too: then `native` throws why it is not there, and nobody asks who connects. */
export type MaybeAddon = { readonly native: Native; readonly peerUid: PeerUid | null };

/** Parts that can run without it, as they are configured. */
export type FrugalPart = 'agent' | 'engine';

/** @throws KernelInterfaceError NATIVE_MISSING */
export function loadAddon(load: () => Native = loadNative): Addon {
  const native = load();
  return { native, peerUid: fd => native.peerCredentials(fd).uid };
}

/**
 * The addon, or, where it is not there and the part as configured does not need it, none.
 * @throws KernelInterfaceError NATIVE_MISSING, which says what of the configuration needs it
 */
export function loadAddonFor(
  part: FrugalPart,
  config: Config,
  say: (text: string) => void,
  load?: () => Native,
): MaybeAddon {
  try {
    return loadAddon(load);
  } catch (lack) {
    if (!(lack instanceof KernelInterfaceError)) throw lack;
    const needs = addonNeeds(part, config);
    if (needs.length > 0)
      throw new KernelInterfaceError(
        lack.code,
        `${lack.message}\n  it is needed for ${needs.join('; for ')}`,
        lack.context,
        lack,
      );
    const [why] = lack.message.split('\n');
    say(`runs without the native addon (${why}): ${consequences[part]}`);
    return { native: absentNative(lack), peerUid: null };
  }
}

const consequences: Readonly<Record<FrugalPart, string>> = {
  agent: 'bpftrace alone asks the kernel, and its API admits root alone',
  engine: 'its sockets admit its own user and root alone',
};

/** What of this configuration a part cannot do without the addon. @throws ConfigError CONFIG_INVALID as `uidsOf` */
export function addonNeeds(part: FrugalPart, { agent, sockets }: Config): string[] {
  const others = notAdmittedByMode(uidsOf(sockets.allowUsers));
  const ofAll =
    others.length > 0
      ? [`sockets.allowUsers: got ${sockets.allowUsers.join(', ')}, wanted root or the own user`]
      : [];
  if (part === 'engine') return ofAll;
  const ofAgent = {
    'agent.driver: libbpf (bpftrace does without, and tells less)': agent.driver === 'libbpf',
    [`agent.endpoint: ${agent.endpoint}`]: agent.endpoint.startsWith('vsock:'),
    'agent.gate.vsock': agent.gate.vsock !== undefined,
    'agent.gate.unix, whose peers are asked who they are': agent.gate.unix.length > 0,
  };
  return [
    ...Object.entries(ofAgent).flatMap(([what, isNeeded]) => (isNeeded ? [what] : [])),
    ...ofAll,
  ];
}
