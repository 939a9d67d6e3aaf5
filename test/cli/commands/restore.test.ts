import test from 'ava';
import { restoreSentence } from '../../../src/cli/commands/restore.ts';

const none = { restored: 0, gone: 0, yielded: 0, failed: 0, messages: [], actions: [], ended: [] };

test('the journal that was looked at is named: another configuration has another', t => {
  t.is(
    restoreSentence(none, '/var/lib/x.db'),
    'Nothing to restore: the journal /var/lib/x.db shows no open action.',
  );
  t.is(
    restoreSentence({ ...none, restored: 2, yielded: 1, actions: ['a'] }, '/x.db'),
    '1 open actions: 2 values restored, 1 left, because somebody else changed them since (journal /x.db).',
  );
});
