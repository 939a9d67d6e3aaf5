import * as z from 'zod';

/** Scripts for bpftrace whose maps become metrics; each runs as a process of its own. */
export const customProbesSchema = z.strictObject({
  directory: z
    .string()
    .min(1)
    .optional()
    .describe('Folder of the scripts (*.bt), looked at every second; absent: none are run.'),
  maxProbes: z
    .int()
    .min(1)
    .max(64)
    .default(8)
    .describe('Scripts that run at once; each is a bpftrace of about 100 MB. More are refused.'),
  maxSeries: z
    .int()
    .min(1)
    .max(100_000)
    .default(1000)
    .describe('Series of one metric of a script; more are dropped, and counted.'),
  maxKeys: z
    .int()
    .min(16)
    .max(1_048_576)
    .default(4096)
    .describe('Entries in each map of a script, in the kernel; more are dropped, and counted.'),
  maxBytesPerSecond: z
    .int()
    .min(4096)
    .max(268_435_456)
    .default(1_048_576)
    .describe(
      'What is read of one script in a second; one that prints more is held up, and bpftrace counts what it loses by that.',
    ),
});

export type CustomProbesConfig = z.infer<typeof customProbesSchema>;
