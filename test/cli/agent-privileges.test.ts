import test from 'ava';
import { privilegesOf } from '../../src/cli/agent-privileges.ts';
import { agentConfigSchema } from '../../src/contract/config.ts';

test('files of root’s take CAP_DAC_OVERRIDE of whoever the agent is, by whatever way it came to be that user', t => {
  const agent = agentConfigSchema.parse({ profile: 'full' });
  const of = (user: string | undefined, uid: number) =>
    privilegesOf(agent, user, uid)?.capabilities.includes('CAP_DAC_OVERRIDE');
  t.false(of(undefined, 0));
  t.true(of('64901', 0), 'by --user');
  t.true(of(undefined, 64_901), 'by a service manager');
});
