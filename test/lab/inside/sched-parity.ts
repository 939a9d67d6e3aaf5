/** The scheduler of the kernel it is started on, by libbpf and by bpftrace; prints one JSON object (`SchedParity`). It asserts nothing: the test outside does. */
import { writeFileSync } from 'node:fs';
import { seeSchedParity } from '../../support/sched-parity.ts';
import { cpuRoot, endAll } from '../../support/sched-scene.ts';

writeFileSync(`${cpuRoot}/cgroup.subtree_control`, '+cpu');
try {
  console.log(JSON.stringify(await seeSchedParity()));
} finally {
  await endAll();
}
