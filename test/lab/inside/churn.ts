/**
 * An agent beside threads and cgroups that come and go, as its first argument has it (`Churn`, JSON), on the kernel it is started on;
 * prints one JSON object (`Churned`). It asserts nothing: the test outside does.
 */
import { writeFileSync } from 'node:fs';
import { type Churn, watchChurn } from '../../support/churn.ts';

writeFileSync('/sys/fs/cgroup/cgroup.subtree_control', '+memory');
const wanted = JSON.parse(process.argv[2] ?? '') as Churn;
console.log(JSON.stringify(await watchChurn(wanted)));
