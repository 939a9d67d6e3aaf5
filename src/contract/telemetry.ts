/** Attribute values as OTLP carries them; bytes and nested detail included. Null is an AnyValue with nothing set. */
export type AttributeValue =
  | string
  | number
  | boolean
  | null
  | Uint8Array
  | readonly AttributeValue[]
  | { readonly [key: string]: AttributeValue };

export type Attributes = Readonly<Record<string, AttributeValue>>;

/** A histogram with explicit bounds: `counts` has one more than `bounds`; bounds in the metric's unit, upper-inclusive. `sum` is NaN where it is not known. */
export type ExplicitHistogram = {
  readonly kind: 'explicit';
  readonly count: number;
  readonly sum: number;
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
};

/** Bucket i of `counts` covers (base^(offset+i), base^(offset+i+1)], base = 2^(2^−scale), in the metric's unit. */
export type ExponentialHistogram = {
  readonly kind: 'exponential';
  readonly count: number;
  readonly sum: number;
  readonly scale: number;
  readonly zeroCount: number;
  readonly offset: number;
  readonly counts: readonly number[];
};

export type MetricType = 'sum' | 'gauge' | 'histogram';
export type Temporality = 'cumulative' | 'delta';

/** One data point. Times in seconds since the epoch (float64: exact to 0.3 µs). */
export type MetricPoint = {
  readonly metric: string;
  readonly unit: string;
  readonly type: MetricType;
  readonly monotonic: boolean;
  readonly temporality: Temporality;
  readonly attributes: Attributes;
  readonly start: number;
  readonly time: number;
  readonly value: number | ExplicitHistogram | ExponentialHistogram;
};

/** All points of one resource (one instance) in one export. */
export type ResourcePoints = {
  readonly resource: Attributes;
  readonly points: readonly MetricPoint[];
};

/** A log record with an event name. `time` in seconds since the epoch. */
export type LogEvent = {
  readonly eventName: string;
  readonly time: number;
  readonly body: string;
  readonly attributes: Attributes;
  readonly resource: Attributes;
  readonly scope: string;
};
