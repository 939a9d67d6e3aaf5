import test from 'ava';
import { accountOf } from '../../src/cli/account.ts';
import { planChange } from '../../src/cli/least-privilege.ts';
import { agentConfigSchema } from '../../src/contract/config.ts';
import { type Capability, type OwnPrivileges, setOf } from '../../src/linux/capabilities.ts';

const every = 2n ** 41n - 1n;
const root: OwnPrivileges = {
  effective: every,
  permitted: every,
  bounding: every,
  noNewPrivileges: false,
};
const only = (...capabilities: Capability[]): OwnPrivileges => {
  const set = setOf(capabilities);
  return { effective: set, permitted: set, bounding: set, noNewPrivileges: true };
};
const base: Capability[] = ['CAP_BPF', 'CAP_PERFMON'];
const list = '-all,+bpf,+perfmon';
const sets = ['--inh-caps', list, '--ambient-caps', list];
const account = { uid: 990, gid: 980, groups: [980, 36] };

test('root keeps what is wanted, in every set, and may gain no more', t => {
  t.deepEqual(planChange(root, 0, { capabilities: base, account: null }), [
    ...sets,
    ...['--bounding-set', list, '--no-new-privs'],
  ]);
});

test('root becomes a user with all groups of that user', t => {
  t.deepEqual(planChange(root, 0, { capabilities: base, account })?.slice(0, 6), [
    ...['--reuid', '990', '--regid', '980', '--groups', '980,36'],
  ]);
});

test('who has only what is wanted, and is that user, stays as it is', t => {
  t.is(planChange(only(...base), 990, { capabilities: base, account }), null);
  t.is(planChange(only('CAP_BPF'), 990, { capabilities: base, account }), null);
});

test('a user with too much gives it up without narrowing what it may not narrow', t => {
  const own = only(...base, 'CAP_DAC_READ_SEARCH');
  t.deepEqual(planChange(own, 990, { capabilities: base, account }), [...sets, '--no-new-privs']);
});

test('a wider capability is kept where it stands for the one that is wanted', t => {
  const own = { ...only('CAP_SYS_ADMIN', 'CAP_SYS_NICE'), noNewPrivileges: false };
  const change = planChange(own, 990, { capabilities: base, account: null });
  t.deepEqual(change?.slice(0, 2), ['--inh-caps', '-all,+sys_admin']);
});

test('who may not become another user is told what that takes', t => {
  const error = t.throws(() => planChange(only(...base), 1000, { capabilities: base, account }));
  t.regex(error.message, /CAP_SETUID and CAP_SETGID, which it has not; start it as that user/);
});

test('root that may not narrow its own sets keeps them: with each program it would get them anew', t => {
  const own = only(...base, 'CAP_SYS_NICE');
  t.is(planChange(own, 0, { capabilities: base, account: null }), null);
});

test('a user is a name of the user database, or a uid', t => {
  t.deepEqual(accountOf('root').uid, 0);
  t.deepEqual(accountOf(64_999), { uid: 64_999, gid: 64_999, groups: [64_999] });
  t.throws(() => accountOf('no-such-user'), {
    message: /agent\.user: wanted a user of this machine/,
  });
  for (const user of ['-u', 'a b', '', -1])
    t.false(agentConfigSchema.safeParse({ user }).success, `${user}`);
  for (const user of ['sculptor', 'machine$', 990])
    t.true(agentConfigSchema.safeParse({ user }).success, `${user}`);
});
