import { existsSync } from 'node:fs';
import test from 'ava';
import { startVsockUplink } from '../../src/agent/vsock-uplink.ts';
import type { Native } from '../../src/linux/native.ts';
import { createExportClient } from '../../src/otlp/export-client.ts';
import { ownUid, socketFolder } from '../support/sockets.ts';
import { steppedClock } from '../support/stepped-clock.ts';

test('what cannot be dialled ends the exporter’s connection, and is said now and then', async t => {
  const dialled: number[][] = [];
  let closed = 0;
  const native = {
    peerCredentials: () => ({ uid: ownUid() }),
    openVsockBridge: () => ({
      dial: (...to: number[]) => {
        dialled.push(to);
        throw new Error('dial vsock 2:7777: ENODEV');
      },
      close: () => {
        closed += 1;
      },
    }),
  } as unknown as Native;
  const said: string[] = [];
  const uplink = await startVsockUplink({
    endpoint: 'vsock://2:7777',
    folder: socketFolder(t),
    native,
    clock: steppedClock(),
    say: (_, message) => said.push(message),
  });
  const client = createExportClient({ endpoint: uplink.endpoint, signal: 'logs' });
  for (let i = 0; i < 3; i++) t.is((await client.send(Buffer.from('x'))).kind, 'retry');
  client.close();
  t.deepEqual(dialled[0], [2, 7777]);
  t.deepEqual(said, ['agent: dial vsock 2:7777: ENODEV']);
  const path = uplink.endpoint.slice('unix://'.length);
  t.true(existsSync(path));
  await uplink.stop();
  t.false(existsSync(path));
  t.is(closed, 1);
});
