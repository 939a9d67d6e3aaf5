import { createExportClient, type ExportClient, type SendResult } from './export-client.ts';

/** `untaken`: indexes of the resources of which nothing arrived; of the others all did but what a partial success rejected for good. */
export type ExportResult =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: string; readonly untaken: readonly number[] };

export type MetricsExporter = {
  /**
   * Sends what was written of each resource, once, without retrying: cumulative series heal with the next export. All of it has
   * been taken, one after the other, and copied when it returns; what making it throws, it throws. Its promise never rejects.
   */
  readonly export: (written: Iterable<Uint8Array>) => Promise<ExportResult>;
  readonly stop: () => Promise<void>;
};

export type MetricsExporterOptions = {
  /** `unix:///path` or `http(s)://host:port`. */
  readonly endpoint: string;
  readonly timeoutSeconds?: number;
  /** Requests are cut between resources below this; collectors take 4 MiB unless configured otherwise. */
  readonly maxRequestBytes?: number;
};

/**
 * Exports many resources in one call: serialized requests, concatenated, are one valid request with all of them (repeated
 * fields of protobuf concatenate).
 */
export function createMetricsExporter(options: MetricsExporterOptions): MetricsExporter {
  const { endpoint, timeoutSeconds = 5, maxRequestBytes = 3_500_000 } = options;
  const client = createExportClient({ endpoint, signal: 'metrics', timeoutSeconds });
  return {
    export: written => sendAll(client, requestsOf(written, maxRequestBytes)),
    stop: async () => client.close(),
  };
}

type Request = { readonly body: Buffer; readonly resources: readonly number[] };

async function sendAll(client: ExportClient, requests: readonly Request[]): Promise<ExportResult> {
  const results = await Promise.all(
    requests.map(async ({ body, resources }) => ({ resources, result: await client.send(body) })),
  );
  const reason = results.map(({ result }) => failureOf(result)).find(failure => failure !== null);
  if (reason === undefined) return { ok: true };
  const untaken = results.filter(({ result }) => result.kind !== 'ok' && result.kind !== 'partial');
  return { ok: false, reason, untaken: untaken.flatMap(({ resources }) => resources) };
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

function failureOf(result: SendResult): string | null {
  switch (result.kind) {
    case 'ok':
      return null;
    case 'partial':
      return `${result.rejected} points rejected: ${result.message}`;
    default:
      return result.reason;
  }
}
