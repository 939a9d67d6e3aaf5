import { ValueType } from '@opentelemetry/api';
import { ProtobufMetricsSerializer } from '@opentelemetry/otlp-transformer';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  DataPointType,
  type MetricData,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics';

export type Instance = { readonly id: string; readonly metrics: readonly MetricData[] };

/** ResourceMetrics of the SDK, as a producer makes them. */
export function resourceMetrics(
  attributes: Record<string, string>,
  metrics: readonly MetricData[],
  scope = 'sculptor.agent',
): ResourceMetrics {
  return {
    resource: resourceFromAttributes(attributes),
    scopeMetrics: [{ scope: { name: scope, version: '1' }, metrics: [...metrics] }],
  };
}

export function serialize(metrics: ResourceMetrics): Uint8Array {
  return ProtobufMetricsSerializer.serializeRequest(metrics) ?? new Uint8Array();
}

export function counter(
  name: string,
  value: number,
  attributes: Record<string, string | number> = {},
): MetricData {
  return {
    descriptor: { name, description: 'd', unit: 's', valueType: ValueType.DOUBLE },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
    dataPointType: DataPointType.SUM,
    isMonotonic: true,
    dataPoints: [{ startTime: [100, 0], endTime: [200, 500_000_000], attributes, value }],
  };
}
