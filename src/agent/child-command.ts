import { getPriority } from 'node:os';

/**
 * Arguments of setpriv(1) that start a command which the kernel ends with this process, however that ends. An agent may run above
 * others (`nice`), since it takes next to nothing from them; what it starts must not.
 */
export function asChild(command: readonly string[], privileges: readonly string[] = []): string[] {
  const lower = Math.max(0, -getPriority());
  return ['--pdeathsig', 'KILL', ...privileges, 'nice', '-n', `${lower}`, ...command];
}
