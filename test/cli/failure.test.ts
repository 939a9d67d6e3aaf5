import test from 'ava';
import { exitCodeOf, formatFailure, NegativeAnswer } from '../../src/cli/failure.ts';
import { createProgram } from '../../src/cli/program.ts';
import { ConfigError, KernelInterfaceError } from '../../src/contract/errors.ts';

test('an error of ours is one line with its code and no stack trace', t => {
  const error = new KernelInterfaceError('KERNEL_PRIVILEGE', 'root is wanted');
  t.is(formatFailure(error, false), 'sculpt: KERNEL_PRIVILEGE: root is wanted');
  t.is(exitCodeOf(error), 1);
});

test('an unexpected error shows its stack only when asked to', t => {
  const error = new TypeError('x is not a function');
  t.regex(
    formatFailure(error, false),
    /^sculpt: unexpected: x is not a function\n.*SCULPT_DEBUG=1/,
  );
  t.notRegex(formatFailure(error, false), / at .*\.ts/);
  t.regex(formatFailure(error, true), / at .*\.ts/);
});

test('what the user wrote wrong exits 2, a part that does not run exits 1', t => {
  t.is(exitCodeOf(new ConfigError('CONFIG_INVALID', 'x')), 2);
  t.is(exitCodeOf(new ConfigError('CONFIG_NOT_RUNNING', 'x')), 1);
});

test('a command whose answer is no has said so already', t => {
  t.is(formatFailure(new NegativeAnswer(), false), '');
  t.is(exitCodeOf(new NegativeAnswer()), 1);
});

test('reading from a part that does not run says which command starts it', async t => {
  const program = createProgram(() => t.fail('nothing to print'));
  const error = await t.throwsAsync(
    program.parseAsync(['node', 'sculpt', 'actions', '--run-dir', '/nowhere']),
    { instanceOf: ConfigError },
  );
  t.is(error?.code, 'CONFIG_NOT_RUNNING');
  t.regex(error?.message ?? '', /\/nowhere\/sculptor-api\.sock.*`sculpt up` or `sculpt sculptor`/);
});

test('status says that nothing runs, what would start it, and exits 1', async t => {
  const printed: string[] = [];
  const program = createProgram(text => printed.push(text));
  const error = await t.throwsAsync(
    program.parseAsync(['node', 'sculpt', 'status', '--run-dir', '/nowhere']),
  );
  t.is(exitCodeOf(error), 1);
  t.regex(printed.join('\n'), /Nothing runs here[\s\S]*sculpt up/);
});
