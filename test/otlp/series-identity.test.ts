import test from 'ava';
import { bytesField, stringField, varint } from '../../src/otlp/protobuf-writer.ts';
import { rewriteRequest } from '../../src/otlp/rewrite-request.ts';

const message = (...fields: Buffer[]) => Buffer.concat(fields);
const keyValue = (key: string, value: string) =>
  message(stringField(1, key), bytesField(2, stringField(1, value)));
const double = (value: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
};

const doubleField = (field: number, value: number) => message(varint(field * 8 + 1), double(value));

/** The series of a request, each with how many it counts as. */
function seriesOf(request: Buffer, signal: 'metrics' | 'logs' = 'metrics'): [string, number][] {
  const series: [string, number][] = [];
  rewriteRequest(signal, request, {
    isIdentity: () => false,
    identify: () => ({}),
    isForbiddenEvent: () => false,
    maxResources: 10,
    maxRecords: 10,
    maxAttributes: 100,
    seriesSecret: Buffer.from('secret'),
    takesSeries: (identity, count) => series.push([identity.toString('hex'), count]) > 0,
  });
  return series;
}

type Parts = {
  resource?: Buffer;
  scope?: Buffer;
  metric?: Buffer;
  point?: Buffer;
  data?: number;
  /** Whether what names a thing comes after what is in it. */
  isLast?: boolean;
};
const plain = {
  resource: bytesField(1, bytesField(1, keyValue('a', '1'))),
  scope: bytesField(1, stringField(1, 'scope')),
  metric: stringField(1, 'm'),
  point: message(bytesField(7, keyValue('k', 'v')), doubleField(3, 1)),
  data: 5,
};

function requestOf(parts: Parts = {}): Buffer {
  const { resource, scope, metric, point, data } = { ...plain, ...parts };
  const named = (name: Buffer, field: number, content: Buffer) => {
    const within = bytesField(field, content);
    return parts.isLast ? message(within, name) : message(name, within);
  };
  const metrics = named(metric, data, bytesField(1, point));
  return bytesField(1, named(resource, 2, named(scope, 2, metrics)));
}

const [[own = ''] = []] = seriesOf(requestOf()) as [[string, number]];

test('another value at another time is the same series', t => {
  const point = message(bytesField(7, keyValue('k', 'v')), doubleField(3, 2), doubleField(4, 9));
  t.deepEqual(seriesOf(requestOf({ point })), [[own, 1]]);
});

const others: Record<string, Parts> = {
  'another attribute of a point': { point: bytesField(7, keyValue('k', 'w')) },
  'another name of a metric': { metric: stringField(1, 'n') },
  'another unit of a metric': { metric: message(stringField(1, 'm'), stringField(3, 's')) },
  'another scope': { scope: bytesField(1, stringField(1, 'other')) },
  'another version of a scope': {
    scope: bytesField(1, message(stringField(1, 'scope'), stringField(2, '2'))),
  },
  'another resource': { resource: bytesField(1, bytesField(1, keyValue('a', '2'))) },
};
for (const [what, parts] of Object.entries(others))
  for (const isLast of [false, true])
    test(`${what} is another series${isLast ? ', also where it comes after what is in it' : ''}`, t => {
      const [[same] = []] = seriesOf(requestOf({ isLast }));
      const [[other] = []] = seriesOf(requestOf({ ...parts, isLast }));
      t.truthy(other);
      t.not(other, same);
    });

test('what is taken from one level and added to another is another series', t => {
  // The same bytes one after another: a schema's URL of the scope, and a unit of the metric.
  const metric = message(stringField(3, 'n'), plain.metric);
  const scope = message(plain.scope, stringField(3, 'n'));
  t.not(seriesOf(requestOf({ metric }))[0]?.[0], seriesOf(requestOf({ scope }))[0]?.[0]);
});

const attributes = { 9: 9, 11: 7 };
const pointOf = (data: 9 | 11, ...more: Buffer[]) => ({
  data,
  point: message(bytesField(attributes[data], keyValue('k', 'v')), ...more),
});

test('a histogram is a series for each bucket, and with other bounds another', t => {
  const packed = (...bounds: number[]) =>
    seriesOf(requestOf(pointOf(9, bytesField(7, message(...bounds.map(double))))));
  const [[first, count] = []] = packed(1, 2, 3);
  t.is(count, 4);
  t.not(packed(1, 2, 4)[0]?.[0], first);
  const apart = [1, 2, 3].map(bound => doubleField(7, bound));
  t.is(seriesOf(requestOf(pointOf(9, ...apart)))[0]?.[1], 4);
});

test('a summary is a series for each quantile, whatever its value', t => {
  const of = (quantile: number, value: number) => {
    const fields = [quantile, value].map((it, i) => doubleField(i + 1, it));
    return seriesOf(requestOf(pointOf(11, bytesField(6, message(...fields)))))[0];
  };
  t.is(of(0.5, 1)?.[1], 2);
  t.is(of(0.5, 1)?.[0], of(0.5, 2)?.[0]);
  t.not(of(0.5, 1)?.[0], of(0.9, 1)?.[0]);
});

test('of logs the resource and the scope are the series', t => {
  const logs = (resource: string, body: string) =>
    bytesField(
      1,
      message(
        bytesField(1, bytesField(1, keyValue('service.name', resource))),
        bytesField(2, bytesField(2, bytesField(5, stringField(1, body)))),
      ),
    );
  const of = (resource: string, body: string) => seriesOf(logs(resource, body), 'logs')[0]?.[0];
  t.is(of('a', 'x'), of('a', 'y'));
  t.not(of('a', 'x'), of('b', 'x'));
});
