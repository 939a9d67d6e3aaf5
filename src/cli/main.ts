import { exitCodeOf, formatFailure } from './failure.ts';
import { printable } from './printable.ts';
import { createProgram } from './program.ts';

let code = 0;
try {
  await createProgram(text => process.stdout.write(`${printable(text)}\n`)).parseAsync(
    process.argv,
  );
} catch (error) {
  code = exitCodeOf(error);
  const message = formatFailure(error, process.env['SCULPT_DEBUG'] === '1');
  if (message !== '') process.stderr.write(`${printable(message)}\n`);
}
process.exit(code);
