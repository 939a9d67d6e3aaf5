/**
 * Which capabilities each source of the agent needs on the kernel this is started on: starts them all as a user of its own
 * with one set after another, before a scene that gives each of them something to tell. Prints one JSON object: source →
 * capabilities, none of which can be left out. Runs as root, in the lab and on the outer machine.
 */
import { execFile, execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { stagePrivilegeScene } from '../../support/privilege-scene.ts';
import type { Told, TrialOutcome } from './privileges-trial.ts';

/** What one source needs; `refused`: why it does not start even with every capability. */
export type Need = { readonly needs: readonly string[] } | { readonly refused: string };
export type Needs = Readonly<Record<string, Need>>;

/** Tried before all others, and left out in this order as long as something can be left out. */
const likely = 'sys_admin sys_ptrace dac_override dac_read_search syslog perfmon bpf'.split(' ');
const trial = fileURLToPath(new URL('privileges-trial.ts', import.meta.url));
const kernel = execFileSync('setpriv', ['--list-caps'], { encoding: 'utf8' }).trim().split('\n');
/** In the order of their bits; a container's root does not have them all. */
const every = kernel.filter((_, bit) => ((held() >> BigInt(bit)) & 1n) === 1n);
const few = likely.filter(name => every.includes(name));

const scene = await stagePrivilegeScene();
const outcomes = new Map<string, TrialOutcome>();
try {
  const all = await tryWith(every);
  const needs: Record<string, Need> = {};
  for (const [source, told] of Object.entries(all))
    needs[source] = 'refused' in told ? told : { needs: await fewest(source, told) };
  console.log(JSON.stringify(needs));
} finally {
  await scene.end();
}

function held(): bigint {
  const status = readFileSync('/proc/self/status', 'utf8');
  return BigInt(`0x${/^CapEff:\s*(\w+)$/m.exec(status)?.[1] ?? '0'}`);
}

/** A set with which a source tells what it tells with every capability, and without any one of which it does not. */
async function fewest(source: string, wanted: Told): Promise<string[]> {
  const works = async (set: readonly string[]): Promise<boolean> => {
    const told = (await tryWith(set))[source];
    // What tells something, but less, may have been too slow for once.
    const again = told && 'metrics' in told && told.metrics.length > 0 && !covers(told, wanted);
    return covers(again ? (await tryWith(set, 2))[source] : told, wanted);
  };
  if (await works([])) return [];
  let set = (await works(few)) ? few : every;
  for (const name of set) {
    const less = set.filter(other => other !== name);
    if (await works(less)) set = less;
  }
  return set.map(name => `CAP_${name.toUpperCase()}`).sort();
}

function covers(told: Told | undefined, wanted: Told): boolean {
  if (!told || 'refused' in told || 'refused' in wanted) return false;
  return wanted.metrics.every(metric => told.metrics.includes(metric));
}

async function tryWith(set: readonly string[], time = 1): Promise<TrialOutcome> {
  const key = `${[...set].sort().join() || 'none'}, time ${time}`;
  const known = outcomes.get(key);
  if (known) return known;
  const found = await run(set);
  outcomes.set(key, found);
  console.error(`privileges: with ${key}: ${JSON.stringify(found)}`);
  return found;
}

async function run(set: readonly string[]): Promise<TrialOutcome> {
  const list = ['-all', ...set.map(name => `+${name}`)].join();
  const { stdout } = await promisify(execFile)('setpriv', [
    ...['--reuid', `${scene.uid}`, '--regid', `${scene.uid}`, '--groups', `${scene.qmpGroup}`],
    ...['--inh-caps', list, '--ambient-caps', list, '--bounding-set', list, '--no-new-privs'],
    // V8 has crashed in the emulated machine while it compiled the stripper of types a second time.
    ...[process.execPath, '--no-wasm-dynamic-tiering', trial, scene.cgroup, scene.uuid],
  ]);
  return JSON.parse(stdout) as TrialOutcome;
}
