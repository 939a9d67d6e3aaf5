import test from 'ava';
import { bytesField, stringField } from '../../src/otlp/protobuf-writer.ts';
import { decodeRetryStatus, encodeRetryStatus } from '../../src/otlp/retry-info.ts';

test('a delay is read as it was written', t => {
  t.is(decodeRetryStatus(encodeRetryStatus(14, 'full', 1.5)), 1.5);
});

/** A google.rpc.Status whose RetryInfo has these bytes. */
const asking = (retryInfo: Uint8Array) => {
  const any = [
    stringField(1, 'type.googleapis.com/google.rpc.RetryInfo'),
    bytesField(2, retryInfo),
  ];
  return bytesField(3, Buffer.concat(any));
};

test('a delay that is empty or negative is none', t => {
  t.is(decodeRetryStatus(asking(Buffer.alloc(0))), 0);
  const minusOne = Buffer.from([8, ...Array(9).fill(255), 1]);
  t.is(decodeRetryStatus(asking(bytesField(1, minusOne))), 0);
});
