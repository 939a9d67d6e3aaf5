import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createKernelSymbols } from '../../src/linux/kernel-symbols.ts';

function symbolsOf(t: ExecutionContext, kallsyms: string) {
  const root = mkdtempSync(join(tmpdir(), 'kallsyms-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'proc'));
  writeFileSync(join(root, 'proc/kallsyms'), kallsyms);
  return createKernelSymbols({ proc: join(root, 'proc') } as never);
}

test('an address is of the function below it; data, and what is too far from any function, has no name', async t => {
  const { learn, nameOf } = symbolsOf(
    t,
    [
      'ffffffff81000000 T first',
      'ffffffff81000100 t second',
      'ffffffff81000180 D data',
      'ffffffffc0000000 t of_a_module\t[module]',
      'ffffffff81000040 W between',
    ].join('\n'),
  );
  const asked = {
    first: 0xffffffff81000000n,
    between: 0xffffffff810000ffn,
    second: 0xffffffff81000190n,
    of_a_module: 0xffffffffc0000010n,
    '0xffffffff80ffffff': 0xffffffff80ffffffn,
    '0xffffffffa0000000': 0xffffffffa0000000n,
  };
  await learn(Object.values(asked));
  for (const [name, address] of Object.entries(asked)) t.is(nameOf(address), name);
  t.is(nameOf(0xffffffff81000001n), '0xffffffff81000001', 'nobody asked');
});

test('a kernel that hides its symbols leaves addresses', async t => {
  const { learn, nameOf } = symbolsOf(t, '0000000000000000 T first\n');
  await learn([0xffffffff81000000n]);
  t.is(nameOf(0xffffffff81000000n), '0xffffffff81000000');
});
