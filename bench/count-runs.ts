import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { SculptorError } from '../src/contract/errors.ts';

const workload = join(import.meta.dirname, '../build/sculpt-workload');

/**
 * Has the kernel count how often and how long BPF programs run until `stop`, or until this process ends, however it ends: the switch
 * kernel.bpf_stats_enabled would stay on, and each run of anybody's programs costs more then.
 * @throws SculptorError DEMO_FAILED when it does not
 */
export async function countRuns(): Promise<{ readonly stop: () => Promise<void> }> {
  const counter = spawn(workload, ['count-runs'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<string>(resolve => {
    counter.once('error', error => resolve(error.message));
    counter.once('exit', code => resolve(`it ended with ${code}`));
  });
  const failure = await Promise.race([ended, once(counter.stdout, 'data').then(() => null)]);
  if (failure !== null)
    throw new SculptorError('DEMO_FAILED', `${workload} count-runs: ${failure}; npm run setup`);
  return {
    stop: async () => {
      counter.kill('SIGKILL');
      await ended;
    },
  };
}
