import test from 'ava';
import { inRunDir } from '../../src/cli/run-dir.ts';
import { configSchema } from '../../src/contract/config.ts';

const instance = '/machine/a';

test('by default every socket is in the folder', t => {
  const { agent, pipeline, engine, sculptor } = inRunDir(configSchema.parse({}), '/tmp/x');
  t.deepEqual(
    [agent.apiSocket, pipeline.listen, pipeline.apiSocket],
    ['/tmp/x/agent-api.sock', '/tmp/x/pipeline.sock', '/tmp/x/pipeline-api.sock'],
  );
  t.deepEqual(
    [engine.listen, engine.apiSocket, sculptor.listen, sculptor.apiSocket],
    ['engine.sock', 'engine-api.sock', 'sculptor.sock', 'sculptor-api.sock'].map(
      name => `/tmp/x/${name}`,
    ),
  );
  t.deepEqual(
    [agent.endpoint, engine.endpoint, sculptor.endpoint, pipeline.engine, pipeline.sculptor],
    ['pipeline.sock', 'pipeline.sock', 'pipeline.sock', 'engine.sock', 'sculptor.sock'].map(
      name => `unix:///tmp/x/${name}`,
    ),
  );
});

test('a socket keeps its name in the folder', t => {
  const { engine, agent } = inRunDir(
    configSchema.parse({
      engine: { endpoint: 'unix:///run/sculptor/engine-out.sock' },
      agent: { gate: { unix: [{ path: '/run/sculptor/guests/a.sock', instance }] } },
    }),
    '/tmp/x',
  );
  t.is(engine.endpoint, 'unix:///tmp/x/engine-out.sock');
  t.is(agent.gate.unix[0]?.path, '/tmp/x/guests/a.sock');
});

test('what is no unix socket, and a socket that is elsewhere, stays where it is', t => {
  const config = configSchema.parse({
    agent: {
      endpoint: 'https://collector:4317',
      apiSocket: '/srv/api.sock',
      gate: { unix: [{ path: '/run/guests/a/sculptor.sock', instance }] },
    },
    engine: { endpoint: 'unix:///run/otel/otlp.sock' },
  });
  const { agent, engine } = inRunDir(config, '/tmp/x');
  t.deepEqual(agent, config.agent);
  t.is(engine.endpoint, config.engine.endpoint);
});
