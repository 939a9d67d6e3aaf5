import { exitCodeOf, formatFailure } from './failure.ts';
import { createAnswer } from './print.ts';
import { printable } from './printable.ts';
import { createProgram } from './program.ts';

let code = 0;
const fail = (error: unknown): void => {
  code = exitCodeOf(error);
  const message = formatFailure(error, process.env['SCULPT_DEBUG'] === '1');
  if (message !== '') process.stderr.write(`${printable(message)}\n`);
};
const { print, written } = createAnswer();
try {
  await createProgram(print).parseAsync(process.argv);
} catch (error) {
  fail(error);
}
await written().catch(fail);
process.exit(code);
