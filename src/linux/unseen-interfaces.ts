import { argumentOf } from './qemu-options.ts';
import { readText } from './read-file.ts';
import type { Roots } from './roots.ts';

/** Whose interfaces the host's kernel has no counters of: nothing of it carries the frames, or none as an interface of its own. */
export const unseenKinds = ['vhost_user', 'vdpa', 'vfio', 'user'] as const;
export type UnseenKind = (typeof unseenKinds)[number];

const byBackend: ReadonlyMap<string, UnseenKind> = new Map([
  ['vhost-user', 'vhost_user'],
  ['vhost-vdpa', 'vdpa'],
  ['user', 'user'],
  ['passt', 'user'],
]);

const pciAddress = /^(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/i;

/**
 * Kinds of interfaces among the arguments of a QEMU that cannot be seen from here. Of what is handed to the guest whole
 * (VFIO) only what is a network controller by its class. What is plugged in later is not seen.
 */
export function unseenInterfaces(roots: Roots, args: readonly string[]): Set<UnseenKind> {
  const found = new Set<UnseenKind>();
  for (const [at, arg] of args.entries()) {
    const option = /^--?(netdev|nic|device)$/.exec(args[at - 1] ?? '')?.[1];
    if (option === undefined) continue;
    const { first, named } = argumentOf(arg);
    const backend = byBackend.get(named.get('type') ?? first);
    if (option !== 'device' && backend) found.add(backend);
    const isVfio = (named.get('driver') ?? first) === 'vfio-pci';
    if (option === 'device' && isVfio && isNetwork(roots, named.get('host') ?? ''))
      found.add('vfio');
  }
  return found;
}

/** By the class of PCI devices: 02 are network controllers. */
function isNetwork(roots: Roots, host: string): boolean {
  if (!pciAddress.test(host)) return false;
  const address = host.length === 'bb:dd.f'.length ? `0000:${host}` : host;
  const kind = readText(`${roots.sys}/bus/pci/devices/${address.toLowerCase()}/class`);
  return kind?.startsWith('0x02') === true;
}
