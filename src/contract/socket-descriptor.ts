import type { Socket } from 'node:net';
import { ConfigError } from './errors.ts';

/**
 * Node has no public way to a socket's descriptor.
 * @throws ConfigError CONFIG_SOCKET: the connection is closed already, or this Node hides it
 */
export function fdOf(socket: Socket): number {
  const handle = (socket as unknown as { _handle?: { fd?: unknown } | null })._handle;
  if (typeof handle?.fd === 'number' && handle.fd >= 0) return handle.fd;
  throw new ConfigError(
    'CONFIG_SOCKET',
    `wanted the file descriptor of a connection (net.Socket._handle.fd), got ${String(handle?.fd)}; this Node hides it or the connection is closed`,
  );
}
