/** An argument of QEMU's: `first,key=value,…`; a comma within a value is doubled. */
export function optionsOf(text: string): { first: string; named: Map<string, string> } {
  const [first = '', ...rest] = text
    .replaceAll(',,', '\0')
    .split(',')
    .map(part => part.replaceAll('\0', ','));
  const named = new Map<string, string>();
  for (const part of [first, ...rest]) {
    const equals = part.indexOf('=');
    if (equals > 0) named.set(part.slice(0, equals), part.slice(equals + 1));
  }
  return { first, named };
}

/**
 * Whether pages of a guest's memory that it never touched come to be when QEMU reads them, judged by QEMU's arguments: those
 * of shared memory and of huge pages do, unless they were made beforehand. What is plugged in later is not seen.
 */
export function growsWhenRead(args: readonly string[]): boolean {
  const isSet = (value: string | undefined): boolean => /^(on|yes|true|y)$/.test(value ?? '');
  const whole = args.some(arg => /^--?mem-path$/.test(arg));
  const madeBefore = args.some(arg => /^--?mem-prealloc$/.test(arg));
  const objects = args.flatMap((arg, i) =>
    /^--?object$/.test(arg) ? [objectOf(args[i + 1] ?? '')] : [],
  );
  return (
    (whole && !madeBefore) ||
    objects.some(({ type, named }) => {
      const mayBeShared = /^memory-backend-(file|memfd|shm)$/.test(type);
      const isShared = type === 'memory-backend-ram' && isSet(named.get('share'));
      return (mayBeShared || isShared) && !isSet(named.get('prealloc'));
    })
  );
}

/** Of `-object`: `type,key=value,…`, or JSON as libvirt writes it. */
function objectOf(text: string): { type: string; named: ReadonlyMap<string, string> } {
  if (!text.startsWith('{')) {
    const { first, named } = optionsOf(text);
    return { type: named.get('qom-type') ?? first, named };
  }
  const found = [...text.matchAll(/"([a-z-]+)":\s*("([^"]*)"|true|false)/g)];
  const named = new Map(found.map(([, key = '', value, inner]) => [key, inner ?? value ?? '']));
  return { type: named.get('qom-type') ?? '', named };
}
