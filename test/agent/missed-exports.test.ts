import test from 'ava';
import { stageRounds } from './support/rounds-stage.ts';

const busy = (agent: ReturnType<typeof stageRounds>) => agent.outbox.lost().busy;

test('readings at which nothing is due miss nothing while an export is under way', async t => {
  const agent = stageRounds(t, { exportSeconds: 0.5 });
  agent.add('/a', { used: 0.5, wait: 0 });
  await agent.read(100);
  t.is(agent.exports.length, 20);
  t.is(busy(agent), 0);
});

test('an interval that passes while an export is under way is missed once, and told after it', async t => {
  const agent = stageRounds(t, { exportSeconds: 1.5 });
  agent.add('/a', { used: 0.5, wait: 0 });
  await agent.read(101);
  const times = agent.valuesOf('container.cpu.time', '/a').map(({ at }) => at.toFixed(1));
  t.deepEqual(times.slice(0, 4), ['0.0', '1.6', '3.2', '4.8']);
  t.is(busy(agent), agent.exports.length - 1);
});

test('each interval that an export outlasts is missed', async t => {
  const agent = stageRounds(t, { exportSeconds: 10.5 });
  agent.add('/a', { used: 0.5, wait: 0 });
  await agent.read(51);
  t.is(agent.exports.length, 1);
  t.is(busy(agent), 10);
});

test('of what is told with each reading each that cannot be sent is missed', async t => {
  const agent = stageRounds(t, { exportSeconds: 0.5 });
  agent.add('/hot', { used: 0.5, wait: 0.5 });
  await agent.read(50);
  t.is(busy(agent) + agent.exports.length, 50);
});
