import * as z from 'zod';
import { configSchema } from './config.ts';
import { nearestOf } from './nearest.ts';

type Issue = z.core.$ZodIssue;

/** Unknown keys of one place that are explained; each takes some ms. */
const mostKeys = 10;

/** One issue of a schema as sentences for a person: the key, what came, what was wanted. */
export function explainIssue(
  issue: Issue,
  values: unknown,
  schema: z.ZodType = configSchema,
): string[] {
  if (issue.code === 'unrecognized_keys') {
    const more = issue.keys.length - mostKeys;
    const explained = issue.keys
      .slice(0, mostKeys)
      .map(key => explainUnknownKey([...issue.path, key], schema));
    return more > 0
      ? [...explained, `${keyPath(issue.path)}: ${more} other unknown keys`]
      : explained;
  }
  const key = keyPath(issue.path);
  return [`${key}: got ${show(valueAt(values, issue.path))}, wanted ${wantedOf(issue)}`];
}

function explainUnknownKey(path: readonly PropertyKey[], schema: z.ZodType): string {
  const key = String(path.at(-1));
  const known = knownKeys(path.slice(0, -1), schema);
  const near = nearestOf(key, known);
  const hint = near === null ? `known here: ${known.join(', ')}` : `did you mean "${near}"?`;
  return `${short(keyPath(path))}: unknown key; ${hint}`;
}

function wantedOf(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.expected === 'int' ? 'a whole number' : articled(issue.expected);
    case 'too_small':
      return `${issue.inclusive === false ? 'more than' : 'at least'} ${issue.minimum}${sizeUnit(issue.origin)}`;
    case 'too_big':
      return `${issue.inclusive === false ? 'less than' : 'at most'} ${issue.maximum}${sizeUnit(issue.origin)}`;
    case 'invalid_value':
      return `one of ${issue.values.map(String).join(', ')}`;
    default:
      return issue.message.replace(/^wanted /, '');
  }
}

function sizeUnit(origin: string): string {
  return { string: ' characters', array: ' entries' }[origin] ?? '';
}

function articled(type: string): string {
  return /^[aeiou]/.test(type) ? `an ${type}` : `a ${type}`;
}

/** `sculptor.policy.instances[0].mode`; the empty path is the file as a whole. */
function keyPath(path: readonly PropertyKey[]): string {
  const text = path
    .map(part => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('');
  return text === '' ? 'the file' : text.replace(/^\./, '');
}

function valueAt(values: unknown, path: readonly PropertyKey[]): unknown {
  let value = values;
  for (const part of path)
    value = (value as Record<PropertyKey, unknown> | undefined | null)?.[part];
  return value;
}

function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  return short(JSON.stringify(value));
}

function short(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** Keys that the schema knows at a place, by its JSON Schema, which has every wrapper taken off. */
function knownKeys(path: readonly PropertyKey[], schema: z.ZodType): string[] {
  type Node = { properties?: Record<string, Node>; items?: Node };
  let node: Node | undefined = z.toJSONSchema(schema, { io: 'input' }) as Node;
  for (const part of path)
    node = typeof part === 'number' ? node?.items : node?.properties?.[String(part)];
  return Object.keys(node?.properties ?? {});
}
