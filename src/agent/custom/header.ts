import { parse } from 'yaml';
import * as z from 'zod';
import { ConfigError } from '../../contract/errors.ts';
import { explainIssue } from '../../contract/explain-issue.ts';
import { attr, metrics } from '../../contract/metrics.ts';

const metricName = z
  .string()
  .max(255)
  .regex(
    /^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$/,
    'wanted lower-case words joined by dots, such as my.metric',
  )
  .refine(name => !isOurs(name), 'wanted a name that is not of this product itself');

/** Of a series that has such a label twice Prometheus takes nothing, and with two `le` nothing of the whole scrape. */
const takenLabels = new Set(
  [
    ...['job', 'instance', 'le'],
    ...[attr.serviceName, attr.serviceInstanceId, attr.hostId, attr.hostName, attr.containerId],
  ].map(inPrometheus),
);
const ourNames = new Set(Object.keys(metrics).map(inPrometheus));

const label = z
  .string()
  .max(255)
  .regex(/^[a-z][a-z0-9_.]*$/, 'wanted lower-case letters, digits, dots and underscores')
  .refine(
    name => !inPrometheus(name).startsWith('sculptor_'),
    'wanted a name that is not of this product itself',
  )
  .refine(
    name => !takenLabels.has(inPrometheus(name)),
    'wanted a name that neither the resource has, nor Prometheus for itself',
  );

/** What one `// sculptor:` line of a script says of one of its maps. */
export const headerSchema = z
  .strictObject({
    name: metricName.describe('Name of the metric.'),
    unit: z
      .string()
      .regex(/^[\x21-\x7e]{1,63}$/, 'wanted a UCUM unit, such as s, By or {call}')
      .describe('Unit of the metric, after `scale`.'),
    type: z
      .enum(['counter', 'gauge', 'histogram'])
      .describe('counter: count(), sum() or a number that grows; histogram: hist() or lhist().'),
    labels: z
      .array(label)
      .max(8)
      .refine(
        labels => new Set(labels.map(inPrometheus)).size === labels.length,
        'wanted each label once (dots and underscores are the same to Prometheus)',
      )
      .default([])
      .describe(
        'Names of the parts of the key, in their order; `cgroup` is an id, and names the instance.',
      ),
    map: z
      .string()
      .regex(/^[A-Za-z_]\w*$/, 'wanted the name of a map, without its @')
      .default('')
      .describe('Map that holds the values, without its @; absent: the unnamed map.'),
    scale: z
      .number()
      .positive()
      .default(1)
      .describe('What the numbers of the script are multiplied by: 1e-9 makes seconds of ns.'),
    headline: z
      .boolean()
      .default(false)
      .describe('Told every second, as the headline series are; one number of each instance.'),
    description: z.string().min(1).max(1000).optional(),
  })
  .refine(
    ({ headline, type, labels }) =>
      !headline || (type !== 'histogram' && labels.join() === 'cgroup'),
    {
      path: ['headline'],
      message: 'wanted true only of a counter or a gauge whose labels are [cgroup]',
    },
  );

/** A metric of a custom probe, and where its values are. */
export type CustomHeader = z.infer<typeof headerSchema> & {
  /** Line of the script, counted from 1. */
  readonly line: number;
};

const marker = /^\s*\/\/\s*sculptor:/;
const comment = /^\s*\/\//;
/** Metrics of one script. */
const mostMetrics = 16;

/**
 * The metrics that a script's header declares: each `// sculptor:` comment is one, a YAML mapping on one line, or on several
 * comments where each but the last ends with a comma.
 * @throws ConfigError CUSTOM_PROBE_INVALID, which says file and line, what came and what was wanted
 */
export function parseHeaders(script: string, file: string): CustomHeader[] {
  const lines = script.split('\n');
  const headers: CustomHeader[] = [];
  for (const [at, first] of lines.entries()) {
    if (!marker.test(first)) continue;
    let text = first.replace(marker, '').trim();
    for (let next = at + 1; text.endsWith(',') && comment.test(lines[next] ?? ''); next += 1)
      text += ` ${(lines[next] ?? '').replace(comment, '').trim()}`;
    headers.push({ ...parseHeader(text, file, at + 1), line: at + 1 });
  }
  checkAll(headers, file);
  return headers;
}

function parseHeader(text: string, file: string, line: number): z.infer<typeof headerSchema> {
  let values: unknown;
  try {
    values = parse(`{${text}}`);
  } catch (cause) {
    const [said = ''] = String((cause as Error).message).split('\n');
    throw invalid(
      file,
      line,
      `got ${said.replace(/ at line.*$/, '')}, wanted name: my.metric, unit: s, …`,
    );
  }
  const result = headerSchema.safeParse(values);
  if (result.success) return result.data;
  const sentences = result.error.issues.flatMap(issue => explainIssue(issue, values, headerSchema));
  throw invalid(file, line, sentences.join('; '));
}

function checkAll(headers: readonly CustomHeader[], file: string): void {
  if (headers.length === 0)
    throw invalid(
      file,
      1,
      'got no header, wanted a comment such as // sculptor: name: my.metric, unit: s, type: counter',
    );
  const [over] = headers.slice(mostMetrics);
  if (over) throw invalid(file, over.line, `got more metrics, wanted at most ${mostMetrics}`);
  for (const key of ['name', 'map'] as const) {
    const seen = new Map<string, number>();
    for (const header of headers) {
      const before = seen.get(header[key]);
      if (before !== undefined)
        throw invalid(
          file,
          header.line,
          `got ${key} "${header[key]}" again, wanted one other than that of line ${before}`,
        );
      seen.set(header[key], header.line);
    }
  }
  const [, second] = headers.filter(({ headline }) => headline);
  if (second) throw invalid(file, second.line, 'got a second headline, wanted at most one');
}

/** Names of the product's metrics, and of what it makes of them. */
function isOurs(name: string): boolean {
  const plain = inPrometheus(name);
  return plain.startsWith('sculptor_') || ourNames.has(plain.replace(/_forecast$/, ''));
}

/** What Prometheus makes of a name, without the suffixes for unit and type. */
function inPrometheus(name: string): string {
  return name.replace(/[._]+/g, '_');
}

function invalid(file: string, line: number, what: string): ConfigError {
  return new ConfigError('CUSTOM_PROBE_INVALID', `${file}:${line}: ${what}`, { file, line });
}
