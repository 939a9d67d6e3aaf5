import test from 'ava';
import { configSchema } from '../../src/contract/config.ts';

test('an empty configuration is complete, with every default', t => {
  const config = configSchema.parse({});
  t.is(config.agent.readIntervalSeconds, 0.2);
  t.is(config.pipeline.mode, 'observe');
  t.is(config.sculptor.policy.maxDegradationRatio, 0.02);
});

const refuses = test.macro((t, config: unknown, path: string) => {
  const result = configSchema.safeParse(config);
  t.false(result.success);
  const issue = result.error?.issues[0];
  t.true(
    [...(issue?.path ?? []), JSON.stringify(issue)].join('.').includes(path),
    JSON.stringify(issue),
  );
});

test(
  'an unknown key is refused by its name',
  refuses,
  { agent: { readIntervall: 1 } },
  'readIntervall',
);
test('an unknown section is refused by its name', refuses, { agents: {} }, 'agents');
test(
  'an interval of 0 is refused',
  refuses,
  { agent: { readIntervalSeconds: 0 } },
  'agent.readIntervalSeconds',
);
test(
  'a negative ratio is refused',
  refuses,
  { sculptor: { policy: { minGainRatio: -1 } } },
  'sculptor.policy.minGainRatio',
);
test(
  'an endpoint without a scheme is refused',
  refuses,
  { agent: { endpoint: '/run/x' } },
  'agent.endpoint',
);
test(
  'a socket path that the kernel cannot bind is refused',
  refuses,
  { engine: { listen: 'x'.repeat(108) } },
  'engine.listen',
);
test('an unknown mode is refused', refuses, { pipeline: { mode: 'force' } }, 'pipeline.mode');

for (const endpoint of ['http://collector:431700', 'https://a b:4317', 'http://[::1:4317']) {
  test(
    `an endpoint that is no URL is refused with what is wrong: ${endpoint}`,
    refuses,
    { agent: { endpoint } },
    'a port up to 65535',
  );
  test(`nor is it one of the engine: ${endpoint}`, refuses, { engine: { endpoint } }, '65535');
}

test('an address of a guest is known however it is written', t => {
  const tcp = (...addresses: string[]) => ({
    agent: {
      gate: {
        tcp: {
          host: '::',
          port: 4317,
          guests: addresses.map(address => ({ address, instance: '/a' })),
        },
      },
    },
  });
  const { gate } = configSchema.parse(
    tcp('0:0:0:0:0:0:0:1', '2001:DB8::0:5', '::ffff:10.0.0.9', '10.0.0.10'),
  ).agent;
  t.deepEqual(
    gate.tcp?.guests.map(({ address }) => address),
    ['::1', '2001:db8::5', '10.0.0.9', '10.0.0.10'],
  );
  const twice = configSchema.safeParse(tcp('::ffff:10.0.0.9', '10.0.0.9'));
  t.is(twice.error?.issues[0]?.message, 'wanted each address once');
});
