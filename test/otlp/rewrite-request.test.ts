import test from 'ava';
import fc from 'fast-check';
import { ProtocolError } from '../../src/contract/errors.ts';
import { decodeLogs } from '../../src/otlp/decode-logs.ts';
import { decodeMetrics } from '../../src/otlp/decode-metrics.ts';
import { eventEncoder } from '../../src/otlp/events-exporter.ts';
import { bytesField, stringField, varintField } from '../../src/otlp/protobuf-writer.ts';
import { type RewriteRules, rewriteRequest } from '../../src/otlp/rewrite-request.ts';
import { counter, resourceMetrics, serialize } from './support.ts';

const identityKeys = ['host.id', 'sculptor.instance.id', 'service.instance.id'];
const rules: RewriteRules = {
  isIdentity: key => identityKeys.includes(key),
  identify: claimed => ({
    'host.id': 'the-host',
    'sculptor.instance.id': 'the-guest',
    'claimed.id': claimed.get('sculptor.instance.id') ?? 'nothing',
  }),
  isForbiddenEvent: name => name.startsWith('sculptor.'),
  maxResources: 100,
  maxRecords: 1000,
  maxAttributes: 100,
  takesSeries: () => true,
  seriesSecret: Buffer.from('secret'),
};

const keyValue = (key: string, value: string) =>
  Buffer.concat([stringField(1, key), bytesField(2, stringField(1, value))]);
const attribute = (field: number, key: string, value: string) =>
  bytesField(field, keyValue(key, value));
const message = (...fields: Buffer[]) => Buffer.concat(fields);
const identity = (claimed: string) =>
  message(
    attribute(1, 'host.id', 'the-host'),
    attribute(1, 'sculptor.instance.id', 'the-guest'),
    attribute(1, 'claimed.id', claimed),
  );
const unknown = message(varintField(900, 7), stringField(901, 'from the future'));
/** A gauge with one point that has these attributes. */
const gauge = (...attributes: Buffer[]) =>
  message(stringField(1, 'm'), bytesField(5, bytesField(1, message(...attributes, unknown))));
const entry = (resource: Buffer[], ...rest: Buffer[]) =>
  bytesField(1, message(...resource.map(part => bytesField(1, part)), ...rest));

const anyKey = fc.oneof(fc.constantFrom(...identityKeys), fc.string({ maxLength: 12 }));

test('whatever a resource claims, it arrives with the identity of the transport and with everything else', t => {
  fc.assert(
    fc.property(fc.array(fc.tuple(anyKey, fc.string()), { maxLength: 8 }), claims => {
      const resource = message(...claims.map(([key, value]) => attribute(1, key, value)), unknown);
      const rest = bytesField(2, message(bytesField(2, gauge()), unknown));
      const request = entry([resource], rest, unknown);
      const claimed = claims.filter(([key]) => key === 'sculptor.instance.id').at(-1)?.[1];
      const honest = claims.filter(([key]) => !identityKeys.includes(key));
      const wanted = message(
        ...honest.map(([key, value]) => attribute(1, key, value)),
        unknown,
        identity(claimed ?? 'nothing'),
      );
      const { request: got, records } = rewriteRequest('metrics', request, rules);
      t.is(records, 1);
      t.deepEqual(got, entry([wanted], rest, unknown));
    }),
  );
});

test('points and scopes keep all but what says who speaks', t => {
  const scope = (...attributes: Buffer[]) => message(stringField(1, 'scope'), ...attributes);
  const honest = attribute(7, 'cpu', '3');
  const request = (own: Buffer[], ofScope: Buffer[], resource: Buffer) =>
    entry(
      [resource],
      bytesField(
        2,
        message(bytesField(1, scope(...ofScope)), bytesField(2, gauge(honest, ...own))),
      ),
    );
  const forged = request(
    [attribute(7, 'sculptor.instance.id', 'another')],
    [attribute(3, 'host.id', 'another')],
    Buffer.alloc(0),
  );
  t.deepEqual(
    rewriteRequest('metrics', forged, rules).request,
    request([], [], identity('nothing')),
  );
});

/** The fields of its data, of the attributes of a point, and of exemplars; a summary has none. */
const kinds = {
  gauge: [5, 7, 5],
  sum: [7, 7, 5],
  histogram: [9, 9, 8],
  exponential: [10, 1, 11],
  summary: [11, 7],
};
for (const [kind, [data = 0, attributes = 0, exemplars]] of Object.entries(kinds)) {
  test(`a ${kind} does not say who speaks, nor its points and exemplars, and is counted`, t => {
    const request = (claims: boolean) => {
      const claim = (field: number) =>
        claims ? attribute(field, 'host.id', 'another') : Buffer.alloc(0);
      const exemplar = exemplars ? bytesField(exemplars, message(claim(7), unknown)) : unknown;
      const point = message(claim(attributes), exemplar);
      const metric = message(bytesField(data, bytesField(1, point)), claim(12));
      return bytesField(2, bytesField(2, metric));
    };
    t.deepEqual(rewriteRequest('metrics', entry([], request(true)), rules), {
      request: entry([identity('nothing')], request(false)),
      records: 1,
      forbiddenEvents: 0,
      overSeries: 0,
    });
  });
}

test('a resource in several fields, or none, is one with the identity', t => {
  const points = bytesField(2, bytesField(2, gauge()));
  const split = entry(
    [attribute(1, 'a', '1'), attribute(1, 'host.id', 'x')],
    points,
    bytesField(1, attribute(1, 'sculptor.instance.id', 'late')),
  );
  t.deepEqual(
    rewriteRequest('metrics', split, rules).request,
    entry([message(attribute(1, 'a', '1'), identity('late'))], points),
  );
  t.deepEqual(
    rewriteRequest('metrics', entry([], points), rules).request,
    entry([identity('nothing')], points),
  );
});

test('an attribute with two keys is taken off when either says who speaks', t => {
  const points = bytesField(2, bytesField(2, gauge()));
  for (const twoKeys of [
    message(stringField(1, 'host.id'), keyValue('harmless', 'x')),
    message(stringField(1, 'harmless'), keyValue('host.id', 'x')),
  ])
    t.deepEqual(
      rewriteRequest('metrics', entry([bytesField(1, twoKeys)], points), rules).request,
      entry([identity('nothing')], points),
    );
});

test('what the SDK sends decodes to the same points', t => {
  const metrics = [counter('a', 1, { cpu: 1 }), counter('b', 2.5)];
  const request = Buffer.from(serialize(resourceMetrics({ 'host.id': 'x', q: 'y' }, metrics)));
  const rewritten = rewriteRequest('metrics', request, rules);
  const [before] = decodeMetrics(request);
  const [after] = decodeMetrics(rewritten.request ?? Buffer.alloc(0));
  t.deepEqual(after?.points, before?.points);
  t.like(after?.resource, { 'host.id': 'the-host', 'sculptor.instance.id': 'the-guest', q: 'y' });
  t.is(rewritten.records, 2);
});

const logs = (...records: Buffer[]) =>
  entry([], bytesField(2, message(...records.map(record => bytesField(2, record)))));
const honestRecord = message(
  bytesField(5, stringField(1, 'a line')),
  stringField(12, 'app.started'),
);

const forbidden = test.macro((t, record: Buffer) => {
  const rewritten = rewriteRequest('logs', logs(honestRecord, record), rules);
  t.deepEqual(rewritten, {
    request: entry([identity('nothing')], bytesField(2, bytesField(2, honestRecord))),
    records: 1,
    forbiddenEvents: 1,
    overSeries: 0,
  });
  t.is(rewriteRequest('logs', logs(record), rules).request, null);
});
test('a forbidden event is left out', forbidden, stringField(12, 'sculptor.recommendation'));
test(
  'a forbidden event whose name is in an attribute is left out',
  forbidden,
  attribute(6, 'event.name', 'sculptor.heartbeat'),
);
test(
  'a forbidden event that has a harmless name as well is left out',
  forbidden,
  message(
    stringField(12, 'sculptor.heartbeat'),
    stringField(12, 'harmless'),
    attribute(6, 'event.name', 'harmless'),
  ),
);
for (const second of [Buffer.alloc(0), stringField(1, 'harmless')])
  test(
    `a forbidden event whose name is followed by another value of ${second.length} bytes is left out`,
    forbidden,
    bytesField(6, message(keyValue('event.name', 'sculptor.heartbeat'), bytesField(2, second))),
  );

test('an event of ours is known by its real encoding', t => {
  const encode = eventEncoder('sculptor.engine', { 'host.id': 'x' });
  const event = { eventName: 'sculptor.heartbeat', body: 'b', attributes: { a: 1 } } as const;
  const request = Buffer.from(encode(event, 1));
  t.is(decodeLogs(request).length, 1);
  t.deepEqual(rewriteRequest('logs', request, rules), {
    request: null,
    records: 0,
    forbiddenEvents: 1,
    overSeries: 0,
  });
});

const tooMany = test.macro((t, request: Buffer, at: string) => {
  const limits = { ...rules, maxResources: 2, maxRecords: 2 };
  const error = t.throws(() => rewriteRequest('metrics', request, limits), {
    instanceOf: ProtocolError,
  });
  t.is(error?.code, 'OTLP_TOO_MANY');
  t.is(error?.context['at'], at);
});
const onePoint = entry([], bytesField(2, bytesField(2, gauge())));
test('too many resources are refused', tooMany, message(onePoint, onePoint, onePoint), 'resources');
test(
  'too many points are refused',
  tooMany,
  entry([], bytesField(2, message(...[1, 2, 3].map(() => bytesField(2, gauge()))))),
  'records',
);

test('values nested without end are refused', t => {
  let value = stringField(1, 'x');
  for (let depth = 0; depth < 200; depth++) value = bytesField(5, bytesField(1, value));
  const deep = bytesField(1, message(stringField(1, 'k'), bytesField(2, value)));
  t.throws(() => rewriteRequest('metrics', entry([deep]), rules), {
    instanceOf: ProtocolError,
    message: /^byte \d+: wanted at most 64 nested values/,
  });
});

test('bytes of any kind are rewritten or refused with their offset, never more', t => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 64 }),
      fc.constantFrom('metrics', 'logs'),
      (bytes, signal) => {
        try {
          rewriteRequest(signal as 'metrics' | 'logs', Buffer.from(bytes), rules);
        } catch (error) {
          if (!(error instanceof ProtocolError)) throw error;
          t.is(error.code, 'OTLP_MALFORMED');
          t.is(typeof error.context['at'], 'number');
        }
      },
    ),
    { numRuns: 2000 },
  );
});

test('a request that is cut off anywhere is refused or has lost whole fields only', t => {
  const request = Buffer.from(
    serialize(resourceMetrics({ a: 'b' }, [counter('m', 1, { c: 'd' })])),
  );
  for (let length = 1; length < request.length; length++)
    t.throws(() => rewriteRequest('metrics', request.subarray(0, length), rules), {
      instanceOf: ProtocolError,
    });
});

const bad = Buffer.from([0x61, 0xff, 0xfe]);
const badAttribute = (field: number) =>
  bytesField(field, message(stringField(1, 'k'), bytesField(2, bytesField(1, bad))));
const inMetric = (...fields: Buffer[]) =>
  entry([], bytesField(2, bytesField(2, message(gauge(), ...fields))));
const isMalformed = test.macro({
  exec: (t, signal: 'metrics' | 'logs', request: Buffer) => {
    const at = request.indexOf(bad);
    t.throws(() => rewriteRequest(signal, request, rules), {
      code: 'OTLP_MALFORMED',
      message: `byte ${at}: wanted UTF-8, got a string of other bytes`,
    });
    const good = Buffer.from(request);
    good.write('abc', at);
    t.notThrows(() => rewriteRequest(signal, good, rules), 'it is for these bytes alone');
  },
  title: title => `a request is malformed where what is not UTF-8 is ${title}`,
});
test('a metric’s name', isMalformed, 'metrics', inMetric(bytesField(1, bad)));
test('a metric’s description', isMalformed, 'metrics', inMetric(bytesField(2, bad)));
test('a metric’s unit', isMalformed, 'metrics', inMetric(bytesField(3, bad)));
test(
  'the value of a point’s attribute',
  isMalformed,
  'metrics',
  entry([], bytesField(2, bytesField(2, gauge(badAttribute(7))))),
);
test(
  'the key of a resource’s attribute',
  isMalformed,
  'metrics',
  entry([bytesField(1, bytesField(1, bad))], bytesField(2, bytesField(2, gauge()))),
);
test(
  'a reference of a resource’s entity',
  isMalformed,
  'metrics',
  entry([bytesField(3, bytesField(2, bad))], bytesField(2, bytesField(2, gauge()))),
);
test(
  'a scope’s version',
  isMalformed,
  'metrics',
  entry([], bytesField(2, message(bytesField(1, bytesField(2, bad)), bytesField(2, gauge())))),
);
test(
  'a scope’s schema',
  isMalformed,
  'metrics',
  entry([], bytesField(2, message(bytesField(2, gauge()), bytesField(3, bad)))),
);
test(
  'a resource’s schema',
  isMalformed,
  'metrics',
  entry([], bytesField(2, bytesField(2, gauge())), bytesField(3, bad)),
);
const record = (...fields: Buffer[]) => entry([], bytesField(2, bytesField(2, message(...fields))));
test('a log’s body', isMalformed, 'logs', record(bytesField(5, bytesField(1, bad))));
test('a log’s severity', isMalformed, 'logs', record(bytesField(3, bad)));
test('an event’s name', isMalformed, 'logs', record(bytesField(12, bad)));
test('the value of a log’s attribute', isMalformed, 'logs', record(badAttribute(6)));
