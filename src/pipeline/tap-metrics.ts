import { scopes } from '../contract/metrics.ts';
import { readScopeName } from '../otlp/decode-common.ts';
import {
  cursorOver,
  readLength,
  readMessage,
  readTag,
  skipField,
} from '../otlp/protobuf-reader.ts';

const resourceMetricsTag = 10; // ExportMetricsServiceRequest.resource_metrics, field 1
const scopeMetricsTag = 18; // ResourceMetrics.scope_metrics, field 2
const scopeTag = 10; // ScopeMetrics.scope, field 1

/**
 * What the engine gets of an ExportMetricsServiceRequest: the same bytes, without resources that the engine itself
 * reported, since what a part says is never its own input. Null when nothing is left.
 * @throws ProtocolError OTLP_MALFORMED with the byte offset
 */
export function withoutOwnMetrics(request: Buffer): Buffer | null {
  const cursor = cursorOver(request);
  const kept: Buffer[] = [];
  let all = true;
  while (cursor.pos < cursor.end) {
    const start = cursor.pos;
    let own = false;
    const tag = readTag(cursor);
    if (tag === resourceMetricsTag) {
      const at = cursor.pos;
      own = isFromEngine(request, at, readLength(cursor));
      cursor.pos = at;
    }
    skipField(cursor, tag);
    if (own) all = false;
    else kept.push(request.subarray(start, cursor.pos));
  }
  if (all) return request;
  return kept.length === 0 ? null : Buffer.concat(kept);
}

function isFromEngine(request: Buffer, at: number, end: number): boolean {
  const cursor = cursorOver(request);
  cursor.pos = at;
  cursor.end = end;
  let found = false;
  readMessage(cursor, field => {
    if (field !== scopeMetricsTag) return false;
    readMessage(cursor, inner => {
      if (inner !== scopeTag) return false;
      found ||= readScopeName(cursor) === scopes.engine;
      return true;
    });
    return true;
  });
  return found;
}
