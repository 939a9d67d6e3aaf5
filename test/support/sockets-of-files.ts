import { startNetProbe } from '../../src/agent/probes/net.ts';
import { ProbeError } from '../../src/contract/errors.ts';
import { howWithoutTrust, loadNative } from '../../src/linux/native.ts';

/**
 * Whether this kernel's verifier lets a program hand a file's socket to a helper. Some builds of 6.18 do not; what else the probe is
 * refused for is for its tests to fail by.
 */
export function trustsSocketsOfFiles(): boolean {
  try {
    startNetProbe({ native: loadNative(), cgroupV1: true, maxInstances: 16 }).stop();
    return true;
  } catch (error) {
    return !(error instanceof ProbeError && error.context['remedy'] === howWithoutTrust);
  }
}
