import test from 'ava';
import { agentStatusSchema, sculptorStatusSchema } from '../../../src/cli/ask.ts';
import { formatStatus, type Status } from '../../../src/cli/commands/status.ts';

const agent = {
  instances: 3,
  contended: [],
  events: 10,
  lost: {},
  exports: { delivered: 2, lost: {}, lastFailure: null },
};
const statusOf = (more: object, pipeline: Status['pipeline'] = null) =>
  formatStatus({
    agent: agentStatusSchema.parse({ ...agent, ...more }),
    pipeline,
    engine: null,
    sculptor: null,
    verdicts: [],
  });

test('guests are listed with where they come from and what was kept out', t => {
  const guest = {
    instance: { id: '1b671a64-40d5-491e-99b0-da01ff1f3341', kind: 'vm', name: 'web' },
    via: 'vsock 5',
    connections: 1,
    records: 42,
    dropped: { event_forbidden: 2 },
    lastFailure: null,
  };
  const dropped = { event_forbidden: 2, connection_unknown: 1 };
  const text = statusOf({ gate: { guests: [guest], records: 42, dropped } });
  t.regex(text, /gate: 1 guests seen; kept out: event_forbidden 2, connection_unknown 1/);
  t.regex(text, /web +1b671a64-\S+ +vsock 5 +1 +42 +event_forbidden 2/);
});

test('where nothing listens for guests there is no word of them', t => {
  t.notRegex(statusOf({ gate: null }), /gate|GUEST/);
});

test('events that nobody counts are not told as none', t => {
  t.regex(statusOf({}), /; 10 events, 0 lost;/);
  t.regex(statusOf({ events: null }), /; uncounted events, 0 lost;/);
});

test('why the last export was not taken is shown beside what was lost', t => {
  const lost = { busy: 0, failed: 3 };
  const failing = { delivered: 2, lost, lastFailure: 'UNAVAILABLE: connect ENOENT' };
  t.regex(
    statusOf({ exports: failing }),
    /2 exports; exports lost: failed 3; the last was not taken: UNAVAILABLE: connect ENOENT$/m,
  );
  t.notRegex(statusOf({ exports: { ...failing, lastFailure: null } }), /the last was not taken/);
});

test('what the embedded pipeline lost is shown by where it should have gone and why', t => {
  const counters = { 'engine.metrics.sent': 9, 'engine.metrics.lost.expired': 0 };
  t.regex(statusOf({}, { mode: 'observe', counters }), /^pipeline +embedded$/m);
  const lossy = { ...counters, 'engine.metrics.lost.expired': 3, 'dropped.own-metrics': 2 };
  t.regex(
    statusOf({}, { mode: 'observe', counters: lossy }),
    /^pipeline +embedded; engine\.metrics\.lost\.expired 3$/m,
  );
});

test('what could not be given back is told', t => {
  const sculptor = {
    ...{ mode: 'enforce', ceiling: 'enforce', heartbeatAgeSeconds: null },
    ...{ running: 1, parked: 0, instances: 3 },
  };
  const textOf = (more: object) =>
    formatStatus({
      ...{ agent: null, pipeline: null, engine: null, verdicts: [] },
      sculptor: sculptorStatusSchema.parse({ ...sculptor, ...more }),
    });
  t.regex(textOf({}), /1 actions hold something, 0 wait for a yes/);
  t.regex(
    textOf({ leftovers: 2 }),
    /1 actions hold something, 2 are over, of which something could not be given back yet, 0 wait/,
  );
});
