import * as z from 'zod';
import { plainAddress } from './plain-address.ts';

const instance = z
  .string()
  .min(1)
  .max(4096)
  .describe('Id of the instance: UUID of a VM that has one, else its cgroup path.');
const name = z.string().min(1).max(255).optional().describe('Its name; absent: from its id.');
const address = z
  .string()
  .refine(
    text => z.union([z.ipv4(), z.ipv6()]).safeParse(text).success,
    'wanted an IPv4 or IPv6 address',
  );

const vsockSchema = z.strictObject({
  port: z
    .int()
    .min(1024)
    .max(4_294_967_294)
    .describe('Port of AF_VSOCK, for every context id. Guests reach it as vsock://2:PORT.'),
  discover: z
    .boolean()
    .default(true)
    .describe(
      'The instance of a context id that is not listed: the QEMU process that has it. One without a UUID is known where no other shares its cgroup, one with a UUID where no other has it.',
    ),
  guests: z
    .array(
      z.strictObject({
        cid: z.int().min(1).max(4_294_967_294).describe('Context id as the kernel tells it.'),
        instance,
        name,
      }),
    )
    .max(4096)
    .default([])
    .refine(guests => isUnique(guests.map(({ cid }) => cid)), 'wanted each cid once')
    .describe('Whose the context ids are; what is listed here is not looked for.'),
});

const unixSchema = z.strictObject({
  path: z
    .string()
    .min(1)
    .max(107)
    .describe('Unix socket of this instance (path of at most 107 bytes).'),
  instance,
  name,
  allowUsers: z
    .array(z.union([z.string().min(1), z.int().min(0)]))
    .default(['root'])
    .describe('Users (name or uid) whose processes may connect; the own user always may.'),
});

const tcpSchema = z.strictObject({
  host: address.describe(
    'Address to listen on, of the network that the guests are on; nothing is assumed.',
  ),
  port: z.int().min(1).max(65_535).describe('Port of TCP to listen on.'),
  guests: z
    .array(
      z.strictObject({
        address: address
          .overwrite(plainAddress)
          .describe('Source address; all others are refused.'),
        instance,
        name,
      }),
    )
    .min(1)
    .max(4096)
    .refine(guests => isUnique(guests.map(({ address }) => address)), 'wanted each address once')
    .describe('Who may connect, and whose instance each is.'),
});

/** Where guests may speak to the host's agent, and how much each may say. Nothing listens unless it is said here. */
export const gateConfigSchema = z.strictObject({
  vsock: vsockSchema.optional(),
  unix: z
    .array(unixSchema)
    .max(4096)
    .default([])
    .describe('Unix sockets to listen on, one for each instance.'),
  tcp: tcpSchema.optional(),
  maxGuests: z
    .int()
    .min(1)
    .max(4096)
    .default(256)
    .describe('Guests that are served; for one more the one that is longest gone is forgotten.'),
  maxConnections: z
    .int()
    .min(1)
    .max(64)
    .default(4)
    .describe('Connections of one guest. It can make the agent hold 3 messages for each.'),
  maxMessageBytes: z
    .int()
    .min(4096)
    .max(67_108_864)
    .default(4_194_304)
    .describe('Largest OTLP request of a guest.'),
  maxResources: z
    .int()
    .min(1)
    .max(100_000)
    .default(1000)
    .describe('Resources in one request of a guest.'),
  maxRecords: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(20_000)
    .describe('Points or log records in one request of a guest.'),
  recordsPerSecond: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(5000)
    .describe('Points and log records of one guest; over it: UNAVAILABLE with the time to wait.'),
  maxCores: z
    .number()
    .min(0.01)
    .max(4)
    .default(0.2)
    .describe(
      'What the requests of one guest may take of the agent (cores), whatever makes them costly; over it as over the rate.',
    ),
  maxSeries: z
    .int()
    .min(100)
    .max(10_000_000)
    .default(100_000)
    .describe(
      'Series of one guest in ten minutes: a resource, a scope, a metric and attributes that it told, each bucket and quantile, and of logs each resource and scope. Points and log records of more are left out, and counted. Takes a byte each.',
    ),
});

export type GateConfig = z.infer<typeof gateConfigSchema>;

function isUnique(values: readonly unknown[]): boolean {
  return new Set(values).size === values.length;
}
