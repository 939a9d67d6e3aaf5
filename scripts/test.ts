/**
 * Runs the tests in their groups. Prints each test, at the end once more what failed, and one line of counts from the
 * runner's own.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** Of one run of ava: how many, and of what failed its lines. */
type Outcome = { passed: number; skipped: number; failures: string[][]; exitCode: number };
type Group = {
  name: string;
  folders: string[];
  flags: string[];
  /** A folder below that is a group of its own. */
  without?: string;
  /** Only with `--long`. */
  long?: true;
  /**
   * What fails is tried once more, and said. For tests that read the scheduler of a machine which others use too, or boot an
   * emulated one: one stranger's burst must not cost an hour's run, and what fails twice is ours.
   */
  twice?: true;
};

/** A test that takes so long says so, that it be seen where a run's time goes. */
const longSeconds = 5;

/** Each file of tests is a process of its own, which would compile the same sources anew: half a second of a CPU, and more. */
const compileCache = fileURLToPath(new URL('../build/compile-cache', import.meta.url));

const oneAtATime = ['--serial', '--concurrency', '1'];
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
  // One file at a time: they load the machine and read its scheduler. Within a file those that only wait run beside one another
  // (`beside`).
  { name: 'kernel', folders: ['kernel'], flags: ['--concurrency', '1'], twice: true },
  // One machine at a time: it takes both cores.
  { name: 'lab', folders: ['lab'], flags: oneAtATime, without: 'lab/long', twice: true },
  { name: 'lab/long', folders: ['lab/long'], flags: oneAtATime, long: true, twice: true },
  // What goes on for minutes.
  { name: 'long', folders: ['long'], flags: oneAtATime, long: true },
  // Its first file builds the collector as it is loaded: minutes, where nothing is cached.
  { name: 'collector', folders: ['collector'], flags: [...oneAtATime, '--timeout', '10m'] },
];

// What takes long is left out unless asked for: it, and every kernel of the lab.
const long = process.argv.includes('--long');
if (long) process.env['SCULPTOR_LONG'] = '1';

// Tests of what is not built are skipped: nobody is to take that for a pass.
if (process.env['SCULPTOR_WITHOUT_ADDON'])
  throw new Error('SCULPTOR_WITHOUT_ADDON is set: the tests want the addon');

const only = process.argv.slice(2).filter(argument => !argument.startsWith('--'));
let passed = 0;
let skipped = 0;
const failures: string[][] = [];
const secondTries: string[] = [];
for (const group of groups) {
  if (only.length > 0 ? !only.includes(group.name) : group.long && !long) continue;
  const outcome = await runGroup(group);
  passed += outcome.passed;
  skipped += outcome.skipped;
  failures.push(...outcome.failures);
}
// Once more at the end, where a reader looks, and where a log that was cut still has it.
for (const failure of failures) console.log(failure.join('\n'));
for (const title of secondTries) console.log(`passed at its second try only: ${title}`);
const counts = `${passed} passed, ${failures.length} failed`;
console.log(skipped > 0 ? `${counts}, ${skipped} skipped` : counts);
process.exitCode = failures.length > 0 || passed === 0 ? 1 : 0;

async function runGroup(group: Group): Promise<Outcome> {
  const began = Date.now();
  const files = group.folders
    .filter(folder => existsSync(`test/${folder}`))
    .map(folder => `test/${folder}/**/*.test.ts`);
  if (group.without) files.push(`!test/${group.without}/**`);
  if (files.length === 0) return { passed: 0, skipped: 0, failures: [], exitCode: 0 };
  console.log(`── ${group.name} tests`);
  const outcome = await runAva(group.flags, files);
  if (group.twice) await tryAgain(group, outcome);
  // ava may fail without a failing test: a file that does not load, or that never ends.
  if (outcome.exitCode !== 0 && outcome.failures.length === 0)
    fail(outcome, `${group.name}: the runner itself failed (exit code ${outcome.exitCode})`);
  if (group.name === 'kernel' && outcome.passed === 0 && canRunKernelTests())
    fail(outcome, 'kernel: no test ran, although this machine could run them');
  const seconds = ((Date.now() - began) / 1000).toFixed(0);
  console.log(
    `── ${group.name}: ${outcome.passed} passed, ${outcome.failures.length} failed, ${outcome.skipped} skipped (${seconds} s)`,
  );
  return outcome;
}

function fail(outcome: Outcome, why: string): void {
  console.log(why);
  outcome.failures.push([why]);
}

/** Runs what failed alone; only what passes then stops being a failure. */
async function tryAgain(group: Group, outcome: Outcome): Promise<void> {
  const remaining: string[][] = [];
  for (const failure of outcome.failures) {
    const [, file = '', title = ''] = /^not ok \d+ - (.+?) › (.*)$/.exec(failure[0] ?? '') ?? [];
    console.log(`── ${group.name}: once more, alone: ${file} › ${title}`);
    const again = await runAva(group.flags, [`test/${group.folders[0]}/${file}.test.ts`], title);
    const passes = again.exitCode === 0 && again.passed > 0;
    if (passes) {
      outcome.passed += again.passed;
      secondTries.push(`${file} › ${title}`);
    } else remaining.push([...failure.slice(0, 1), ...(again.failures[0] ?? failure).slice(1)]);
  }
  // What ava ended with stands where no test explains it.
  if (outcome.failures.length > 0 && remaining.length === 0) outcome.exitCode = 0;
  outcome.failures = remaining;
}

/** One run of ava over files, or over one title in them; its lines go to the terminal as they come. */
async function runAva(flags: string[], files: string[], title?: string): Promise<Outcome> {
  const outcome: Outcome = { passed: 0, skipped: 0, failures: [], exitCode: 0 };
  const match = title === undefined ? [] : ['--match', title];
  const ava = spawn('node_modules/.bin/ava', ['--tap', ...flags, ...match, ...files], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, NODE_COMPILE_CACHE: compileCache },
  });
  const ended = new Promise<number>(resolve => {
    ava.once('exit', code => resolve(code ?? 1));
  });
  let failing: string[] | null = null;
  let began = Date.now();
  for await (const line of createInterface({ input: ava.stdout })) {
    if (/^(TAP version|1\.\.|# (tests|pass|fail|skip))/.test(line)) continue;
    const isResult = /^(not )?ok /.test(line);
    const seconds = (Date.now() - began) / 1000;
    console.log(isResult && seconds >= longSeconds ? `${line} (${seconds.toFixed(0)} s)` : line);
    if (isResult) began = Date.now();
    if (isResult) failing = line.startsWith('not') ? [line] : null;
    if (!isResult) failing?.push(line);
    else if (failing) outcome.failures.push(failing);
    else if (line.includes('# SKIP')) outcome.skipped += 1;
    else outcome.passed += 1;
  }
  outcome.exitCode = await ended;
  return outcome;
}

function canRunKernelTests(): boolean {
  return process.getuid?.() === 0 && existsSync('/sys/kernel/btf/vmlinux');
}
