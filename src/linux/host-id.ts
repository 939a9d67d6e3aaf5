import { hostname } from 'node:os';
import { readText } from './read-file.ts';
import type { Roots } from './roots.ts';

/** A stable id of this host: /etc/machine-id, else the DMI product UUID, else the host's name. */
export function readHostId(roots: Roots, machineIdPath = '/etc/machine-id'): string {
  return (
    readText(machineIdPath) ||
    readText(`${roots.sys}/class/dmi/id/product_uuid`)?.toLowerCase() ||
    hostname()
  );
}
