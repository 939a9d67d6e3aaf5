import { createExportClient, type ExportClient, type SendResult } from './export-client.ts';
import { maxRequestBytes as mostBytes } from './write-parts.ts';

/**
 * `why`: too large where all that failed was refused, and is more than collectors take. `untaken`: indexes of the resources of which
 * nothing arrived; of the others all did but what a partial success rejected for good.
 */
export type ExportResult =
  | { readonly ok: true }
  | {
      readonly ok: false;
      readonly why: 'failed' | 'too_large';
      readonly reason: string;
      readonly untaken: readonly number[];
    };

export type MetricsExporter = {
  /**
   * Sends what was written of each resource, once, without retrying: cumulative series heal with the next export. All of it has
   * been taken, one after the other, and copied when it returns; what making it throws, it throws. Its promise never rejects.
   */
  readonly export: (written: Iterable<Uint8Array>) => Promise<ExportResult>;
  /** What is under way ends within `timeoutSeconds` from now, one way or the other. */
  readonly stop: () => Promise<void>;
};

export type MetricsExporterOptions = {
  /** `unix:///path` or `http(s)://host:port`. */
  readonly endpoint: string;
  /** Of an export; longer after one that was not answered in its time. */
  readonly timeoutSeconds?: number;
  /** Requests are cut between resources below this. */
  readonly maxRequestBytes?: number;
};

/**
 * Exports many resources in one call: serialized requests, concatenated, are one valid request with all of them (repeated
 * fields of protobuf concatenate).
 */
export function createMetricsExporter(options: MetricsExporterOptions): MetricsExporter {
  const { endpoint, timeoutSeconds = 5, maxRequestBytes = mostBytes } = options;
  const client = createExportClient({ endpoint, signal: 'metrics', timeoutSeconds });
  return {
    export: written => sendAll(client, requestsOf(written, maxRequestBytes), maxRequestBytes),
    stop: async () => client.close(),
  };
}

type Request = { readonly body: Buffer; readonly resources: readonly number[] };

async function sendAll(
  client: ExportClient,
  requests: readonly Request[],
  maxRequestBytes: number,
): Promise<ExportResult> {
  const ends = await Promise.all(
    requests.map(async request => ({ ...request, result: await client.send(request.body) })),
  );
  const failed = ends.flatMap(({ result, ...request }) =>
    result.kind === 'ok' ? [] : [{ ...request, result }],
  );
  const [first] = failed;
  if (!first) return { ok: true };
  const isTooLarge = failed.every(
    ({ body, result }) => result.kind === 'refused' && body.byteLength > maxRequestBytes,
  );
  const untaken = failed.filter(({ result }) => result.kind !== 'partial');
  return {
    ok: false,
    why: isTooLarge ? 'too_large' : 'failed',
    reason: failureOf(first.result),
    untaken: untaken.flatMap(({ resources }) => resources),
  };
}

function requestsOf(written: Iterable<Uint8Array>, maxRequestBytes: number): Request[] {
  const requests: Request[] = [];
  let parts: Uint8Array[] = [];
  let bytes = 0;
  let cutAt = 0;
  const cut = () => {
    const resources = parts.map((_, i) => cutAt + i);
    if (parts.length > 0) requests.push({ body: Buffer.concat(parts, bytes), resources });
    cutAt += parts.length;
    parts = [];
    bytes = 0;
  };
  for (const part of written) {
    if (bytes + part.byteLength > maxRequestBytes) cut();
    parts.push(part);
    bytes += part.byteLength;
  }
  cut();
  return requests;
}

function failureOf(result: Exclude<SendResult, { kind: 'ok' }>): string {
  if (result.kind !== 'partial') return result.reason;
  return `${result.rejected} points rejected: ${result.message}`;
}
