import test from 'ava';
import fc from 'fast-check';
import {
  globMatches,
  instancePolicyOf,
  type Mode,
  modeSchema,
  policySchema,
  strictestMode,
} from '../../src/contract/policy.ts';

const matches = test.macro((t, glob: string, text: string, wanted: boolean) => {
  t.is(globMatches(glob, text), wanted);
});

test('a star stays within a path segment', matches, '/machine/*', '/machine/a', true);
test('a star does not cross a slash', matches, '/machine/*', '/machine/a/b', false);
test('two stars cross slashes', matches, '/machine/**', '/machine/a/b', true);
test('a dot is a dot', matches, '/a.slice', '/aXslice', false);
test('brackets and plus stand for themselves', matches, '/a[1]+', '/a[1]+', true);

test('a glob without stars matches itself only', t => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), text => {
      fc.pre(!text.includes('*'));
      t.true(globMatches(text, text));
      t.false(globMatches(text, `${text}x`));
    }),
  );
});

test('the strictest mode is the least in the order off, observe, approve, enforce', t => {
  t.is(strictestMode(['enforce', 'observe', 'approve']), 'observe');
  t.is(strictestMode(['enforce']), 'enforce');
  fc.assert(
    fc.property(fc.array(fc.constantFrom<Mode>(...modeSchema.options), { minLength: 1 }), modes => {
      const strictest = strictestMode(modes);
      return (
        modes.includes(strictest) &&
        modes.every(mode => strictestMode([mode, strictest]) === strictest)
      );
    }),
  );
});

test('the first rule that matches holds', t => {
  const policy = policySchema.parse({
    instances: [
      { match: '/batch/special', protected: true },
      { match: '/batch/*', class: 'batch' },
    ],
  });
  t.true(instancePolicyOf(policy, '/batch/special')?.protected);
  t.is(instancePolicyOf(policy, '/batch/x')?.class, 'batch');
  t.is(instancePolicyOf(policy, '/other'), null);
});

test('a UUID in upper case is the UUID', t => {
  const match = '1B671A64-40D5-491E-99B0-DA01FF1F3341';
  const policy = policySchema.parse({ instances: [{ match, protected: true }] });
  t.true(instancePolicyOf(policy, match.toLowerCase())?.protected);
  const paths = policySchema.parse({ instances: [{ match: '/A', protected: true }] });
  t.is(instancePolicyOf(paths, '/a'), null);
});

test('a rule that can match no instance is refused', t => {
  const isTaken = (match: string) => policySchema.safeParse({ instances: [{ match }] }).success;
  for (const match of ['/', '/a', '/a/**', '**', '*/x', '1b671a64-*', '/machine/a b'])
    t.true(isTaken(match), match);
  for (const match of ['/a/', 'machine.slice/*', 'web', '/machine/*/', '**/'])
    t.false(isTaken(match), match);
});
