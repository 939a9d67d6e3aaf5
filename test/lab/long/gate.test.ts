import type { GateOutcome } from '../inside/gate.ts';
import { mostBoots, withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

for (const kernel of labKernels)
  needsLab(kernel)(
    `on Debian's ${kernel} an agent in a guest is seen by the host under the guest’s identity, and what the guest forges reaches nobody`,
    async t => {
      t.timeout(mostBoots * 1_100_000);
      await withLab({ kernel, deadlineSeconds: 1000, memoryMiB: 4096 }, async lab => {
        const script =
          'cd /checkout && node --disable-warning=ExperimentalWarning test/lab/inside/gate.ts';
        const outcome = JSON.parse(await lab.run(script, { timeoutSeconds: 900 })) as GateOutcome;
        t.log(`the guest had been up for ${outcome.guestUptimeSeconds} s`);
        const { tripleFaults } = outcome;
        t.log(`triple faults of the guest, started again: ${tripleFaults.length}`, ...tripleFaults);
        const [host] = outcome.ofHost;
        const uuid = '5c0bdd5e-1f6f-4f2f-9d0b-3d1f3c7b4a11';
        for (const resource of outcome.ofGuest)
          t.like(resource, {
            'host.id': host?.['host.id'],
            'sculptor.instance.id': uuid,
            'sculptor.instance.kind': 'vm',
          });
        const claimed = outcome.ofGuest.filter(resource => resource['service.name'] === 'forger');
        t.true(
          claimed.length > 0,
          'what the forger measured arrives, under the identity of its VM',
        );
        t.true(
          outcome.ofGuest.some(resource => resource['sculptor.guest.instance.id'] === '/tenant'),
        );
        t.false(outcome.ofHost.some(resource => resource['sculptor.instance.id'] === '/victim'));
        t.true(outcome.ofHost.some(resource => resource['sculptor.instance.id'] === uuid));
        t.true(outcome.guestMetrics.includes('sculptor.runqueue.wait'));

        // The host holds back for 100 ms what it sends to the guest, which both its agents see, however they reach the gate.
        t.log('round-trip times', JSON.stringify(outcome.rtts));
        const rtts = outcome.rtts.filter(({ instance }) => instance === '/tenant');
        t.is(new Set(rtts.map(({ teller }) => teller)).size, 2);
        for (const { meanSeconds } of rtts)
          t.true(meanSeconds >= 0.1 && meanSeconds < 0.3, `${meanSeconds} s`);

        // Both sides of a delay, of one instance, by the same indexes.
        for (const metric of ['guest.runqueue.wait', 'guest.steal'])
          t.deepEqual(Object.keys(outcome.vcpus[`sculptor.vcpu.${metric}`] ?? {}), ['0', '1']);
        t.deepEqual(Object.keys(outcome.vcpus['sculptor.task.runqueue.wait'] ?? {}), ['0', '1']);
        t.deepEqual(Object.keys(outcome.vcpus['sculptor.vcpu.exits'] ?? {}), ['0', '1']);
        t.log('by vCPU', JSON.stringify(outcome.vcpus));

        for (const [way, answers] of Object.entries(outcome.forged)) {
          t.is(answers.metrics.kind, 'ok', way);
          for (const name of ['recommendation', 'heartbeat'] as const)
            t.like(answers[name], { kind: 'partial', rejected: 1 }, `${name} by ${way}`);
        }
        t.is(Object.keys(outcome.forged).length, 2);
        const names = new Set(outcome.events.map(({ name }) => name));
        t.deepEqual([...names].sort(), ['sculptor.placement', 'sculptor.topology']);
        t.deepEqual([...new Set(outcome.events.map(({ hostId }) => hostId))], [host?.['host.id']]);
      });
    },
  );
