import { exitCodeOf, formatFailure } from './failure.ts';
import { createProgram } from './program.ts';

let code = 0;
try {
  await createProgram(text => process.stdout.write(`${text}\n`)).parseAsync(process.argv);
} catch (error) {
  code = exitCodeOf(error);
  const message = formatFailure(error, process.env['SCULPT_DEBUG'] === '1');
  if (message !== '') process.stderr.write(`${message}\n`);
}
process.exit(code);
