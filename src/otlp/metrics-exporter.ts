import { createExportClient, type ExportClient, type SendResult } from './export-client.ts';

export type ExportResult = { readonly ok: true } | { readonly ok: false; readonly reason: string };

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

async function sendAll(client: ExportClient, requests: readonly Buffer[]): Promise<ExportResult> {
  const results = await Promise.all(requests.map(request => client.send(request)));
  const reasons = results.map(failureOf).filter(reason => reason !== null);
  return reasons[0] === undefined ? { ok: true } : { ok: false, reason: reasons[0] };
}

function requestsOf(written: Iterable<Uint8Array>, maxRequestBytes: number): Buffer[] {
  const requests: Buffer[] = [];
  let parts: Uint8Array[] = [];
  let bytes = 0;
  const cut = () => {
    if (parts.length > 0) requests.push(Buffer.concat(parts, bytes));
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
