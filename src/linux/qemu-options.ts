/** Keys of one argument that are looked at; a device has some dozens. */
const mostKeys = 256;
/** Of one argument that is JSON; a device has some hundred bytes. */
const mostOfJson = 16_384;

/** An argument of QEMU's: `first,key=value,…`; a comma within a value is doubled. */
export function optionsOf(text: string): { first: string; named: Map<string, string> } {
  const [first = '', ...rest] = text
    .replaceAll(',,', '\0')
    .split(',', mostKeys)
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
    /^--?object$/.test(arg) ? [argumentOf(args[i + 1] ?? '')] : [],
  );
  return (
    (whole && !madeBefore) ||
    objects.some(({ first, named }) => {
      const type = named.get('qom-type') ?? first;
      const mayBeShared = /^memory-backend-(file|memfd|shm)$/.test(type);
      const isShared = type === 'memory-backend-ram' && isSet(named.get('share'));
      return (mayBeShared || isShared) && !isSet(named.get('prealloc'));
    })
  );
}

/** An argument as people write it, `first,key=value,…`, or as the JSON that libvirt writes, which has no `first`. */
export function argumentOf(text: string): ReturnType<typeof optionsOf> {
  if (!text.startsWith('{')) return optionsOf(text);
  const found = [...text.slice(0, mostOfJson).matchAll(/"([a-z-]+)":\s*("([^"]*)"|true|false)/g)];
  const named = new Map(found.map(([, key = '', value, inner]) => [key, inner ?? value ?? '']));
  return { first: '', named };
}
