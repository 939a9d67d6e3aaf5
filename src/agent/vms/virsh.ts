import { randomBytes } from 'node:crypto';
import { execa } from 'execa';
import {
  type Domain,
  type DomainAnswer,
  messageOf,
  parseStats,
  statsScript,
} from '../../linux/libvirt.ts';
import { asChild, childOptions } from '../child-command.ts';

export type VirshOptions = {
  /** The program: see `findVirsh`. */
  readonly virsh: string;
  /** For all of it: a QEMU that hangs never answers, and libvirt waits for it. */
  readonly timeoutSeconds: number;
  readonly maxBytes: number;
  /** Ends it at once. */
  readonly signal: AbortSignal;
};

/**
 * Asks the host's libvirt, read-only, in one run of virsh, what the drives of these domains did, by their UUIDs. A domain that is
 * not in the answer was not reached in time. Where nothing at all could be asked, all of them are `libvirt_silent`.
 * @see https://www.libvirt.org/manpages/virsh.html#domstats
 */
export async function askLibvirt(
  domains: readonly Domain[],
  { virsh, timeoutSeconds, maxBytes, signal }: VirshOptions,
): Promise<ReadonlyMap<string, DomainAnswer>> {
  const nonce = randomBytes(12).toString('hex');
  const ask = ['--readonly', '--connect', 'qemu:///system', statsScript(domains, nonce)];
  // But where the agent is root's it has no capabilities.
  const none = ['--inh-caps=-all', '--ambient-caps=-all'];
  const end = await execa('setpriv', asChild([virsh, ...ask], none), {
    reject: false,
    ...childOptions,
    stdin: 'ignore',
    stripFinalNewline: false,
    timeout: timeoutSeconds * 1000,
    cancelSignal: signal,
    killSignal: 'SIGKILL',
    maxBuffer: maxBytes,
    env: { LC_ALL: 'C' },
  });
  const silent = (detail: string) =>
    new Map(domains.map(({ uuid }) => [uuid, { why: 'libvirt_silent', detail } as const]));
  if (end.isMaxBuffer) return silent(`virsh said more than ${maxBytes} bytes`);
  if (!end.stdout.includes(nonce))
    return silent(`virsh: ${messageOf(end.stderr) || (end.shortMessage ?? 'said nothing')}`);
  return parseStats(end.stdout, end.stderr, domains, nonce);
}
