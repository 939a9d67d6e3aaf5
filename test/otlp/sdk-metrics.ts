import { readFileSync } from 'node:fs';
import type { HrTime } from '@opentelemetry/api';
import { ValueType } from '@opentelemetry/api';
import { ProtobufMetricsSerializer } from '@opentelemetry/otlp-transformer';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { AggregationTemporality, DataPointType, type MetricData } from '@opentelemetry/sdk-metrics';
import { schemaUrl } from '../../src/contract/metrics.ts';
import {
  attributesOf,
  createShaper,
  described,
  type Sample,
  type Telling,
} from '../../src/otlp/sample.ts';

const packageJson = new URL('../../package.json', import.meta.url);

/** What is told, as the SDK's own data by the SDK's own serializer: what our writers are held against. */
export function writtenBySdk(
  telling: Telling,
  samples: readonly Sample[],
  now: number,
): Uint8Array | undefined {
  const { scope, temporal, resolution } = telling;
  const shape = createShaper(telling);
  const byMetric = new Map<string, MetricData>();
  for (const sample of samples) {
    const metric = described(sample);
    const { start, value } = shape(sample, now, resolution());
    const point = {
      ...{ startTime: hrTime(start), endTime: hrTime(now) },
      ...{ attributes: attributesOf(sample), value: pointValue(value) },
    };
    const data = byMetric.get(metric.name);
    if (data) {
      (data.dataPoints as unknown[]).push(point);
      continue;
    }
    const { name, description, unit } = metric;
    byMetric.set(name, {
      descriptor: { name, description, unit, valueType: ValueType.DOUBLE },
      dataPointType: dataPointType(value, metric.type === 'gauge'),
      isMonotonic: true,
      aggregationTemporality:
        temporal.temporality === 'delta'
          ? AggregationTemporality.DELTA
          : AggregationTemporality.CUMULATIVE,
      dataPoints: [point],
    } as MetricData);
  }
  return ProtobufMetricsSerializer.serializeRequest({
    resource: resourceFromAttributes({ ...telling.resource }),
    scopeMetrics: [{ scope: sdkScope(scope), metrics: [...byMetric.values()] }],
  });
}

/** A scope as the SDK has it: of the version that is released. */
export function sdkScope(name: string): { name: string; version: string; schemaUrl: string } {
  const { version } = JSON.parse(readFileSync(packageJson, 'utf8')) as { version: string };
  return { name, version, schemaUrl };
}

function dataPointType(value: Sample['value'], isGauge: boolean): DataPointType {
  if (typeof value === 'number') return isGauge ? DataPointType.GAUGE : DataPointType.SUM;
  return value.kind === 'explicit' ? DataPointType.HISTOGRAM : DataPointType.EXPONENTIAL_HISTOGRAM;
}

function pointValue(value: Sample['value']): unknown {
  if (typeof value === 'number') return value;
  const { count } = value;
  if (value.kind === 'explicit')
    return {
      count,
      sum: Number.isNaN(value.sum) ? undefined : value.sum,
      buckets: { boundaries: value.bounds, counts: value.counts },
    };
  return {
    ...{ count, sum: value.sum, scale: value.scale, zeroCount: value.zeroCount },
    positive: { offset: value.offset, bucketCounts: value.counts },
    negative: { offset: 0, bucketCounts: [] },
  };
}

function hrTime(seconds: number): HrTime {
  const whole = Math.floor(seconds);
  return [whole, Math.round((seconds - whole) * 1e9)];
}
