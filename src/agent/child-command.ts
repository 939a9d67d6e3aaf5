import { getPriority } from 'node:os';

/**
 * Arguments of setpriv(1) that start a command which the kernel ends with this process, however that ends. An agent may run above
 * others (`nice`), since it takes next to nothing from them; what it starts must not.
 */
export function asChild(command: readonly string[], privileges: readonly string[] = []): string[] {
  const lower = Math.max(0, -getPriority());
  return ['--pdeathsig', 'KILL', ...privileges, 'nice', '-n', `${lower}`, ...command];
}

/**
 * How such a command is run, by execa. In a session of its own: what goes to all of a terminal (Ctrl-C, its end) is for this process,
 * which ends what it started when it stops; the kernel ends it with this process in any session. Without execa's own clean-up: at a
 * signal that ends this process before it has stopped.
 */
export const childOptions = { detached: true, cleanup: false } as const;
