import { KernelInterfaceError } from '../contract/errors.ts';
import { ownLacking } from '../linux/capabilities.ts';
import { hostRoots } from '../linux/roots.ts';
import { ofAllParts } from './doctor/capabilities.ts';

/**
 * Says at once that this user cannot do it, and what would still work, before anything is started.
 * @throws KernelInterfaceError KERNEL_PRIVILEGE
 */
export function requirePrivilege(command: string): void {
  const absent = ownLacking(hostRoots, ofAllParts);
  if (absent.length === 0) return;
  throw new KernelInterfaceError(
    'KERNEL_PRIVILEGE',
    `"sculpt ${command}" needs root (or ${absent.join(', ')}), and this process has neither; sculpt engine, status and doctor work without`,
    { absent },
  );
}
