import { writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { askLibvirt } from '../../../src/agent/vms/virsh.ts';
import { makeFakeVirsh, oneDrive } from '../../support/fake-virsh.ts';
import { until } from '../../support/sockets.ts';

const domains = ['a', 'b', 'c'].map((name, i) => ({
  uuid: `b0000000-0000-4000-8000-00000000000${i}`,
  name,
}));
const [a, b, c] = domains.map(({ uuid }) => uuid) as [string, string, string];

function start(t: ExecutionContext) {
  const virsh = makeFakeVirsh(t);
  const { signal } = new AbortController();
  const limits = { virsh: virsh.path, timeoutSeconds: 60, maxBytes: 1 << 20, signal };
  const ask = (other: Partial<typeof limits> = {}) => askLibvirt(domains, { ...limits, ...other });
  return { virsh, ask };
}

test('all domains are asked in one run, read-only, in the language that is parsed', async t => {
  const { virsh, ask } = start(t);
  virsh.answer({ [a]: oneDrive('a', [1]), [c]: oneDrive('c', [3]) });
  const answers = await ask();
  const readsOf = (uuid: string) => {
    const answer = answers.get(uuid);
    return answer && 'drives' in answer ? answer.drives[0]?.counters.read.operations : answer?.why;
  };
  t.deepEqual(
    domains.map(({ uuid }) => readsOf(uuid)),
    [1, 'libvirt_unknown', 3],
  );
  t.is(virsh.runs().length, 1);
  t.regex(virsh.runs()[0] ?? '', /^LC_ALL=C --readonly --connect qemu:\/\/\/system echo /);
});

test('one that hangs is not waited for; those before it are told, those after it were not reached', async t => {
  const { virsh, ask } = start(t);
  virsh.answer({ [a]: oneDrive('a', [1]), [b]: 'hang', [c]: oneDrive('c', [3]) });
  const answers = await ask({ timeoutSeconds: 2 });
  t.true('drives' in (answers.get(a) ?? {}));
  t.like(answers.get(b), { why: 'libvirt_silent' });
  t.false(answers.has(c));
});

test('who says too much is not believed', async t => {
  const { virsh, ask } = start(t);
  virsh.answer({ [a]: oneDrive('a', [1]), [b]: 'x'.repeat(10_000) });
  const answers = await ask({ maxBytes: 5000 });
  t.deepEqual(
    [...answers.values()].map(answer => 'why' in answer && answer.detail),
    domains.map(() => 'virsh said more than 5000 bytes'),
  );
});

test('where libvirt is not reached, its client says why', async t => {
  const { virsh, ask } = start(t);
  const failed = "Failed to connect socket to '/var/run/libvirt/libvirt-sock-ro'";
  writeFileSync(virsh.path, `#!/bin/sh\necho "error: ${failed}" >&2\nexit 1\n`);
  t.like((await ask()).get(a), { why: 'libvirt_silent', detail: `virsh: error: ${failed}` });
  t.regex(JSON.stringify([...(await ask({ virsh: '/nowhere/virsh' }))]), /No such file/);
});

test('a run is ended with the agent', async t => {
  const { virsh, ask } = start(t);
  virsh.answer({ [a]: 'hang' });
  const [end, began] = [new AbortController(), performance.now()];
  const asked = ask({ signal: end.signal, timeoutSeconds: 600 });
  await until(() => virsh.runs().length === 1, 20);
  end.abort();
  t.like((await asked).get(a), { why: 'libvirt_silent' });
  t.true(performance.now() - began < 40_000, 'it did not end by itself');
});
