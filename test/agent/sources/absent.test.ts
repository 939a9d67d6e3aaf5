import test from 'ava';
import { dropAbsent } from '../../../src/agent/sources/absent.ts';

test('who is absent from three answers in a row is gone; who is named in between is not', t => {
  const known = new Map(['usb', 'system'].map(name => [name, { absent: 0 }]));
  const answers = ['system', 'system', 'usb', 'system', 'system'];
  for (const name of answers) dropAbsent(known, new Set([name, 'system']));
  t.deepEqual([...known.keys()], ['usb', 'system']);
  dropAbsent(known, new Set(['system']));
  t.deepEqual([...known.keys()], ['system']);
});
