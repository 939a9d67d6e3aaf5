import { existsSync } from 'node:fs';
import { type Drive, isUsed } from './block-stats.ts';

/** A domain of libvirt's as its QEMU's command line has it. */
export type Domain = { readonly uuid: string; readonly name: string };

export type DomainAnswer =
  | { readonly drives: Drive[] }
  | {
      readonly why: 'libvirt_unknown' | 'libvirt_silent';
      /** For a person. */
      readonly detail: string;
    };

/** Whether libvirt started a QEMU: it gives its own monitor this name. */
export function isLibvirts(args: readonly string[]): boolean {
  return args.some(arg => /(^|[,"])id"?[=:]"?charmonitor\b/.test(arg));
}

/** libvirt's own client; null where it is not on the search path. */
export function findVirsh(searchPath = process.env['PATH'] ?? ''): string | null {
  const paths = searchPath.split(':').map(folder => `${folder}/virsh`);
  return paths.find(path => path.startsWith('/') && existsSync(path)) ?? null;
}

/**
 * A domain that somebody else works on, or that hung in the run before, is passed over (`--nowait`). domstats takes a name for a
 * UUID that it does not know, domname does not: it is asked where they are the same.
 */
export function statsScript(domains: readonly Domain[], nonce: string): string {
  const asked = domains.flatMap(({ uuid, name }) => [
    `echo ${nonce}:${uuid}:`,
    ...(name === uuid ? [`domname ${uuid}`] : []),
    `domstats --raw --nowait --block ${uuid}`,
  ]);
  return [...asked, `echo ${nonce}::`].join('; ');
}

/**
 * What virsh said to `statsScript`. Names and paths may have anything in them, also lines like virsh's own: where the answer of one
 * domain ends, and that of the next begins, is told by a line that nobody could write beforehand.
 */
export function parseStats(
  stdout: string,
  stderr: string,
  domains: readonly Domain[],
  nonce: string,
): ReadonlyMap<string, DomainAnswer> {
  const byUuid = new Map(domains.map(domain => [domain.uuid, domain]));
  const parts = stdout.split(`${nonce}:`).slice(1);
  return new Map(
    parts.flatMap((part, i): [string, DomainAnswer][] => {
      const domain = byUuid.get(part.slice(0, part.indexOf(':')));
      if (domain === undefined) return [];
      if (i === parts.length - 1)
        return [[domain.uuid, { why: 'libvirt_silent', detail: 'virsh came to no end with it' }]];
      return [[domain.uuid, answerOf(part.slice(domain.uuid.length + 1), stderr, domain)]];
    }),
  );
}

function answerOf(said: string, stderr: string, { uuid, name }: Domain): DomainAnswer {
  const silent = (detail: string): DomainAnswer => ({ why: 'libvirt_silent', detail });
  if (stderr.includes(`failed to get domain '${uuid}'`))
    return { why: 'libvirt_unknown', detail: `libvirt (qemu:///system) has no domain ${uuid}` };
  const text = said.replace(/^\n+/, '');
  if (text === '')
    return silent(`virsh said nothing of it, and first of what failed: ${messageOf(stderr)}`);
  const head = `${name === uuid ? `${name}\n\n` : ''}Domain: '${name}'\n`;
  if (!text.startsWith(head))
    return {
      why: 'libvirt_unknown',
      detail: `libvirt calls ${uuid} otherwise: it said ${JSON.stringify(text.slice(0, 80))}`,
    };
  const fields = fieldsOf(text.slice(head.length));
  if (typeof fields === 'string') return silent(fields);
  const count = Number(fields.get('count') ?? 0);
  const counted = Array.from({ length: count }, (_, i) => driveOf(fields, i)).flatMap(
    drive => drive ?? [],
  );
  if (count > 0 && counted.length === 0)
    return silent('libvirt works on it, or its QEMU hangs: it tells nothing of its drives');
  return { drives: counted.filter(isUsed) };
}

/** A field that is there twice was written by who chose the name of a file: then it is not known which is libvirt's. */
function fieldsOf(text: string): Map<string, string> | string {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, key, value = ''] = /^ {2}block\.([\w.]+)=(.*)$/.exec(line) ?? [];
    if (key === undefined) continue;
    if (fields.has(key)) return `virsh says block.${key} twice`;
    fields.set(key, value);
  }
  const count = fields.get('count') ?? '';
  return /^\d{1,4}$/.test(count) ? fields : `virsh says block.count=${count.slice(0, 80)}`;
}

/** Null where libvirt has no counters of it. libvirt tells nothing of discards. */
function driveOf(fields: ReadonlyMap<string, string>, i: number): Drive | null {
  const name = fields.get(`${i}.name`) ?? '';
  const numbers = ['bytes', 'reqs', 'times'].flatMap(what =>
    ['rd', 'wr', 'fl'].map(way =>
      // A flush moves nothing.
      way === 'fl' && what === 'bytes' ? 0 : toCount(fields.get(`${i}.${way}.${what}`)),
    ),
  );
  if (name === '' || name.length > 256 || numbers.some(Number.isNaN)) return null;
  const at = (way: number) => ({
    bytes: numbers[way] ?? 0,
    operations: numbers[way + 3] ?? 0,
    timeNs: numbers[way + 6] ?? 0,
  });
  const discard = { bytes: 0, operations: 0, timeNs: 0 };
  return { name, counters: { read: at(0), write: at(1), flush: at(2), discard } };
}

function toCount(text: string | undefined): number {
  return /^\d{1,19}$/.test(text ?? '') ? Number(text) : Number.NaN;
}

/** What virsh said first of what it could not do. */
export function messageOf(stderr: string): string {
  return stderr
    .split('\n')
    .filter(line => line !== '')
    .slice(0, 2)
    .map(line => line.slice(0, 200))
    .join(' ');
}
