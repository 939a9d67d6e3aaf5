/** An IP address in the one way of writing it that all others come down to; IPv4 that is mapped into IPv6 is IPv4. Other texts stay. */
export function plainAddress(address: string): string {
  const url = `http://[${address}]`;
  if (!URL.canParse(url)) return address;
  const plain = new URL(url).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(plain);
  if (!mapped) return plain;
  return mapped
    .slice(1)
    .map(half => Number.parseInt(half, 16))
    .flatMap(half => [half >> 8, half & 255])
    .join('.');
}
