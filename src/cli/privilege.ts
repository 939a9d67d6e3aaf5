import { KernelInterfaceError } from '../contract/errors.ts';
import { readText } from '../linux/read-file.ts';
import { hostRoots } from '../linux/roots.ts';
import { decodeCapabilities } from './doctor/capabilities.ts';

/**
 * Says at once that this user cannot do it, and what would still work, before anything is started.
 * @throws KernelInterfaceError KERNEL_PRIVILEGE
 */
export function requirePrivilege(command: string): void {
  const status = readText(`${hostRoots.proc}/self/status`) ?? '';
  const { absent } = decodeCapabilities(/^CapEff:\s*(\w+)$/m.exec(status)?.[1] ?? '0');
  if (absent.length === 0) return;
  throw new KernelInterfaceError(
    'KERNEL_PRIVILEGE',
    `"sculpt ${command}" needs root (or ${absent.map(c => c.name).join(', ')}), and this user has neither; sculpt engine, status and doctor work without`,
    { absent: absent.map(c => c.name) },
  );
}
