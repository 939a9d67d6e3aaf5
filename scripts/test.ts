/** Runs the tests in their groups and prints one line of counts, from the runner's own. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';

type Counts = { passed: number; failed: number; skipped: number };
type Group = {
  name: string;
  folders: string[];
  flags: string[];
  /** A folder below that is a group of its own. */
  without?: string;
  /** Only with `--long`. */
  long?: true;
};

const groups: Group[] = [
  {
    name: 'unit',
    folders: [
      'contract',
      'otlp',
      'linux',
      'pipeline',
      'agent',
      'pae',
      'sculptor',
      'api',
      'cli',
      'scripts',
    ],
    flags: ['--concurrency', '2'],
  },
  // One file at a time: they load the machine and read its scheduler.
  { name: 'kernel', folders: ['kernel'], flags: ['--serial', '--concurrency', '1'] },
  // One machine at a time: it takes both cores.
  { name: 'lab', folders: ['lab'], flags: ['--serial', '--concurrency', '1'], without: 'lab/long' },
  {
    name: 'lab/long',
    folders: ['lab/long'],
    flags: ['--serial', '--concurrency', '1'],
    long: true,
  },
  // What goes on for minutes.
  { name: 'long', folders: ['long'], flags: ['--serial', '--concurrency', '1'], long: true },
  { name: 'collector', folders: ['collector'], flags: ['--serial', '--concurrency', '1'] },
];

// What takes long is left out unless asked for: it, and every kernel of the lab.
const long = process.argv.includes('--long');
if (long) process.env['SCULPTOR_LONG'] = '1';

const only = process.argv.slice(2).filter(argument => !argument.startsWith('--'));
const total: Counts = { passed: 0, failed: 0, skipped: 0 };
for (const group of groups) {
  if (only.length > 0 ? !only.includes(group.name) : group.long && !long) continue;
  const counts = await runGroup(group);
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped += counts.skipped;
}
console.log(
  `${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`,
);
process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;

async function runGroup(group: Group): Promise<Counts> {
  const began = Date.now();
  const files = group.folders
    .filter(folder => existsSync(`test/${folder}`))
    .map(folder => `test/${folder}/**/*.test.ts`);
  if (group.without) files.push(`!test/${group.without}/**`);
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  if (files.length === 0) return counts;
  console.log(`── ${group.name} tests`);
  const ava = spawn('node_modules/.bin/ava', ['--tap', ...group.flags, ...files], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface({ input: ava.stdout })) take(line, counts);
  const code = await new Promise<number>(resolve => {
    if (ava.exitCode !== null) resolve(ava.exitCode);
    else ava.once('exit', exit => resolve(exit ?? 1));
  });
  // ava may fail without a failing test: a file that does not load, or that never ends.
  if (code !== 0 && counts.failed === 0) {
    console.log(`${group.name}: the runner itself failed (exit code ${code})`);
    counts.failed += 1;
  }
  if (group.name === 'kernel' && counts.passed === 0 && canRunKernelTests()) {
    console.log('kernel: no test ran, although this machine could run them');
    counts.failed += 1;
  }
  const seconds = ((Date.now() - began) / 1000).toFixed(0);
  console.log(
    `── ${group.name}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped (${seconds} s)`,
  );
  return counts;
}

/** Counts a line of TAP and prints what a person wants to see: each test, and the detail of failures. */
function take(line: string, counts: Counts): void {
  if (/^ok .*# SKIP/.test(line)) counts.skipped += 1;
  else if (line.startsWith('ok ')) counts.passed += 1;
  else if (line.startsWith('not ok ')) counts.failed += 1;
  if (/^(TAP version|1\.\.|# (tests|pass|fail|skip))/.test(line)) return;
  console.log(line);
}

function canRunKernelTests(): boolean {
  return process.getuid?.() === 0 && existsSync('/sys/kernel/btf/vmlinux');
}
