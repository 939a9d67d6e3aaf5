/**
 * What an agent tells of a cgroup with a spinner, and what doctor says, on a kernel that is locked down. Prints one JSON object
 * (`LockdownLab`). It asserts nothing: the test outside does.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import type { Check } from '../../../src/cli/doctor/check.ts';
import { eventually } from '../../support/scene.ts';
import { startTold } from '../../support/told-agent.ts';
import { openTenancy } from './tenancy.ts';

export type LockdownLab = {
  /** As the kernel says it. */
  readonly lockdown: string;
  /** By source: `running`, or why not. */
  readonly sources: Readonly<Record<string, string>>;
  /** That were told of the spinner's cgroup, which came after the agent. */
  readonly metrics: readonly string[];
  /** Of the sources, and of lockdown itself. */
  readonly doctor: Readonly<Record<string, Pick<Check, 'state' | 'found'>>>;
  readonly lost: Readonly<Record<string, number>>;
};

execFileSync('mount', ['-t', 'securityfs', 'securityfs', '/sys/kernel/security']);
writeFileSync('/sys/fs/cgroup/cgroup.subtree_control', '+memory');
const doctor = spawnSync('node', ['src/cli/main.ts', 'doctor', '--json'], { encoding: 'utf8' });
const { checks } = JSON.parse(doctor.stdout) as { checks: Check[] };
const told = await startTold({ detailIntervalSeconds: 2 });
const tenancy = openTenancy('sculptor-lockdown');
try {
  const { id } = tenancy.add('one', ['spin', '--threads', '1'], '1');
  await eventually('what is told of its memory, twice', 60, () =>
    told.pointsOf('container.memory.usage', id).length > 2 ? true : null,
  );
  const lab: LockdownLab = {
    lockdown: readFileSync('/sys/kernel/security/lockdown', 'utf8').trim(),
    sources: told.agent.status().sources,
    metrics: [...new Set(told.allPointsOf(id).map(({ metric }) => metric))].sort(),
    doctor: Object.fromEntries(
      checks
        .filter(({ name }) => name === 'lockdown' || name.startsWith('source '))
        .map(({ name, state, found }) => [name, { state, found }]),
    ),
    lost: told.agent.status().lost,
  };
  console.log(JSON.stringify(lab));
} finally {
  await tenancy.clear();
  await told.stop();
}
