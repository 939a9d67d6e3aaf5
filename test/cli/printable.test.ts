import test from 'ava';
import { printable } from '../../src/cli/printable.ts';
import { sayOnStderr } from '../../src/cli/run-until.ts';

test('nothing that a terminal obeys is printed; lines and letters of any language are', t => {
  t.is(
    printable('a\u001b[31mb\u0007\r\t\u009b\u007f'),
    'a\\u001b[31mb\\u0007\\u000d\\u0009\\u009b\\u007f',
  );
  const names = ['a\u007f\u001b\n'];
  t.deepEqual(JSON.parse(printable(JSON.stringify(names, null, 2))), names);
  t.is(printable('/machine/größe 😀\n  → gone'), '/machine/größe 😀\n  → gone');
});

test.serial('no name begins a line of its own among what is said', t => {
  const write = process.stderr.write;
  const said: unknown[] = [];
  process.stderr.write = (text: unknown) => said.push(text) > 0;
  try {
    sayOnStderr('warn', 'agent: web\nerror: all is lost\u001b[0m: its vCPUs are not known');
  } finally {
    process.stderr.write = write;
  }
  t.deepEqual(said, [
    'warn: agent: web\n  error: all is lost\\u001b[0m: its vCPUs are not known\n',
  ]);
});
