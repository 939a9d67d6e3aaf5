/** The embedded pipeline as a process: `node pipeline-process.ts RUN_DIR`; a mode on a line of its standard input is the new stamp. */
import { createInterface } from 'node:readline';
import { realClock } from '../../src/cli/clock.ts';
import { configSchema } from '../../src/contract/config.ts';
import { modeSchema } from '../../src/contract/policy.ts';
import { loadNative } from '../../src/linux/native.ts';
import { startPipeline } from '../../src/pipeline/pipeline.ts';

const run = process.argv[2] ?? '/run/sculptor';
const config = configSchema.parse({
  pipeline: {
    listen: `${run}/pipeline.sock`,
    engine: `unix://${run}/engine.sock`,
    sculptor: `unix://${run}/sculptor.sock`,
  },
});
const native = loadNative();
const pipeline = await startPipeline({
  config: config.pipeline,
  sockets: config.sockets,
  peerUid: fd => native.peerCredentials(fd).uid,
  clock: realClock,
  say: (level, message) => console.error(`${level}: ${message}`),
});
createInterface({ input: process.stdin }).on('line', line =>
  pipeline.setMode(modeSchema.parse(line)),
);
process.once('SIGTERM', () => void pipeline.stop().then(() => process.exit(0)));
