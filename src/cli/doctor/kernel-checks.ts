import { startRunqueueProbe } from '../../agent/probes/runqueue.ts';
import type { Config } from '../../contract/config.ts';
import { ConfigError, describeError } from '../../contract/errors.ts';
import { howToMakeBtf, howToUnlock, loadProbe, ownBtf } from '../../linux/native.ts';
import { openOwnMasks } from '../../linux/own-masks.ts';
import { readText } from '../../linux/read-file.ts';
import { addonNeeds } from '../addon.ts';
import { decodeCapabilities } from './capabilities.ts';
import { type Check, missing, noScheduler, unknown, works } from './check.ts';
import type { Machine } from './machine.ts';
import { attempt } from './remedy.ts';

const addonName = 'addon, libbpf';

/** Kernel, BTF, lockdown, capabilities, and BPF programs, which are loaded for real. */
export function checkKernel(machine: Machine, config: Config): Check[] {
  const addon = addonCheck(machine, needsAddon(config));
  const file = fileInPlace(machine, config);
  return [
    kernelCheck(machine),
    btfCheck(machine, config, file),
    lockdownCheck(machine),
    capabilityCheck(machine),
    addon,
    tracingCheck(machine, config.agent.driver === 'libbpf', file),
    iteratorCheck(machine, file === undefined && (addon.needed || addon.state === 'works')),
  ];
}

/** What is taken for the kernel's BTF where it has none. */
function fileInPlace({ roots, exists }: Machine, { agent }: Config): string | undefined {
  return exists(ownBtf(roots)) ? undefined : agent.btf;
}

function needsAddon(config: Config): boolean {
  try {
    return addonNeeds('agent', config).length > 0;
  } catch (error) {
    // Of sockets.allowUsers, whom this host does not know: the agent says so when it starts.
    if (error instanceof ConfigError) return true;
    throw error;
  }
}

/** Whether there is no addon, and this configuration does without it. */
export function doesWithoutAddon(checks: readonly Check[]): boolean {
  return checks.some(
    ({ name, state, needed }) => name === addonName && state !== 'works' && !needed,
  );
}

function kernelCheck({ roots }: Machine): Check {
  const release = readText(`${roots.proc}/sys/kernel/osrelease`);
  const [major = 0, minor = 0] = (release ?? '').split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 1)
    ? works('kernel', true, { found: `Linux ${release}` })
    : missing('kernel', true, {
        found: `Linux ${release ?? 'of unknown version'}`,
        lost: noScheduler,
        how: 'Linux 6.1 or newer (per-CPU hashes without preallocation)',
      });
}

function btfCheck({ roots, exists }: Machine, { agent }: Config, file: string | undefined): Check {
  const path = ownBtf(roots);
  if (exists(path)) return works('BTF', true, { found: path });
  const found = `${path} is not there`;
  if (file !== undefined) {
    const what = agent.driver === 'bpftrace' ? 'the scripts' : 'the run queue alone';
    return works('BTF', true, { found: `${found}; agent.btf names ${file}, for ${what}` });
  }
  return missing('BTF', true, {
    found,
    lost: noScheduler,
    how: `a kernel built with CONFIG_DEBUG_INFO_BTF=y (every distribution's is, from Debian 11 and Ubuntu 20.10 on); or ${howToMakeBtf}: by it the run queue alone is told, with agent.driver: bpftrace what its scripts tell`,
  });
}

function lockdownCheck({ roots }: Machine): Check {
  const text = readText(`${roots.sys}/kernel/security/lockdown`);
  const level = /\[(\w+)\]/.exec(text ?? '')?.[1];
  if (level === 'confidentiality')
    return missing('lockdown', true, {
      found: 'confidentiality: no BPF program may read kernel memory by a helper',
      lost: noScheduler,
      how: howToUnlock,
    });
  return text === null
    ? unknown('lockdown', { found: 'not told: securityfs is not mounted, or there is none' })
    : works('lockdown', false, { found: level ?? 'none' });
}

function capabilityCheck({ roots }: Machine): Check {
  const status = readText(`${roots.proc}/self/status`) ?? '';
  const { held, absent } = decodeCapabilities(/^CapEff:\s*(\w+)$/m.exec(status)?.[1] ?? '0');
  if (absent.length === 0)
    return works('capabilities', true, { found: held.map(c => c.name).join(', ') });
  return missing('capabilities', true, {
    found: `without ${absent.map(c => c.name).join(', ')}`,
    lost: `${absent.map(c => c.forWhat).join(', ')}. The engine, status and doctor work without.`,
    how: 'run as root, or give the service these capabilities',
  });
}

function addonCheck({ native }: Machine, needed: boolean): Check {
  try {
    const version = native().libbpfVersion();
    return works(addonName, needed, { found: `build/sculptor.node loads; libbpf ${version}` });
  } catch (error) {
    return missing(addonName, needed, {
      found: describeError(error).split('\n')[0] ?? 'it does not load',
      lost: 'the sculptor, and the agent but with agent.driver: bpftrace, which tells less. The engine, status and doctor work without.',
      how: 'apt-get install g++ pkg-config libbpf-dev, then npm run setup',
    });
  }
}

function tracingCheck({ native }: Machine, needed: boolean, file: string | undefined): Check {
  if (file !== undefined) return rawTracingCheck(native, needed, file);
  const name = 'BPF tracepoints (tp_btf)';
  return attempt(name, needed, noScheduler, () => {
    loadProbe(native(), 'sched').close();
    return works(name, needed, { found: 'sched.bpf.o was loaded: verified by this kernel' });
  });
}

function rawTracingCheck(native: Machine['native'], needed: boolean, btf: string): Check {
  const name = 'BPF tracepoints (raw_tp)';
  return attempt(name, needed, noScheduler, () => {
    const options = { btf, cgroupV1: false, maxInstances: 16, nodeOfCpu: [] };
    startRunqueueProbe({ native: native(), ...options }).stop();
    return works(name, needed, { found: 'runqueue.bpf.o was attached and stopped: it tells less' });
  });
}

function iteratorCheck({ native, roots }: Machine, needed: boolean): Check {
  const name = 'BPF iterators (iter/task)';
  const lost =
    'whether a thread has a CPU mask of its own: none can be moved with an exact restore';
  return attempt(name, needed, lost, () => {
    const reader = openOwnMasks(native(), roots);
    try {
      const masks = [...reader.read().values()];
      const told = masks.some(mask => mask.ownMask !== null);
      return works(name, needed, {
        found: `${masks.length} threads read; ${told ? 'their own CPU masks are told' : 'own CPU masks are not told (kernel before 6.2): old masks are restored as they were'}`,
      });
    } finally {
      reader.close();
    }
  });
}
