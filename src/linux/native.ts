import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { BpfLoadOptions, BpfObject, Native } from '../../native/index.d.ts';
import {
  ConfigError,
  describeError,
  KernelInterfaceError,
  ProbeError,
  SculptorError,
} from '../contract/errors.ts';
import { bpfCapabilities, ownLacking } from './capabilities.ts';
import { readNumber } from './read-file.ts';
import { hostRoots, type Roots } from './roots.ts';

export type { BpfObject, MapSums, MapWord, Native } from '../../native/index.d.ts';

/** The package's root: the same from src/, dist/ and a bundle, whose files are as deep as this one. */
export const packageRoot = fileURLToPath(new URL('../../', import.meta.url));

/**
 * The addon, loaded once by Node itself.
 * @throws KernelInterfaceError NATIVE_MISSING: why is its first line
 */
export function loadNative(): Native {
  const path = `${packageRoot}build/sculptor.node`;
  try {
    return createRequire(import.meta.url)(path) as Native;
  } catch (cause) {
    const [why] = existsSync(path) ? describeError(cause).split('\n') : ['not built'];
    throw new KernelInterfaceError(
      'NATIVE_MISSING',
      `${path}: ${why}\n  run "npm run setup"; without it the engine runs, and the agent with agent.driver: bpftrace, which tells less; status and doctor work`,
      { path },
      cause,
    );
  }
}

let loaded: Native | null | undefined;

/** The addon; null where it does not load: which parts do without it, and why it is not there, is said when they start. */
export function loadNativeOnce(): Native | null {
  if (loaded === undefined) {
    try {
      loaded = loadNative();
    } catch {
      loaded = null;
    }
  }
  return loaded;
}

/** In the place of an addon that does not load: each call throws why. */
export function absentNative(lack: KernelInterfaceError): Native {
  const [why] = lack.message.split('\n');
  const refuse = (): never => {
    throw new KernelInterfaceError('NATIVE_MISSING', `${why}`, lack.context, lack);
  };
  return {
    peerCredentials: refuse,
    getAffinity: refuse,
    setAffinity: refuse,
    dropFilePages: refuse,
    readAside: refuse,
    lockFolder: refuse,
    endWithin: refuse,
    loadObject: refuse,
    openFolderWatch: refuse,
    openVsockBridge: refuse,
    libbpfVersion: refuse,
  };
}

/** Where a kernel shows its own BTF. */
export const ownBtf = ({ sys }: Roots = hostRoots): string => `${sys}/kernel/btf/vmlinux`;

/** The BTF of the kernel that runs: its own, or where it has none that of a file; undefined: neither. */
export const btfOf = (file: string | undefined, roots: Roots): string | undefined =>
  existsSync(ownBtf(roots)) ? ownBtf(roots) : file;

/** For a person. */
export const howToMakeBtf =
  'agent.btf: a file with the BTF of the very kernel that runs: of BTFHub, or "pahole --btf_encode_detached=FILE vmlinux" of its vmlinux with debug information';

/** `dispensable`: programs in whose place others do; not loaded where the kernel refuses them. */
export type ProbeOptions = BpfLoadOptions & { readonly dispensable?: readonly string[] };

/**
 * Loads `build/bpf/<probe>.bpf.o`.
 * @throws ProbeError PROBE_MISSING when it is not built, PROBE_LOAD with the verifier's log when the kernel refuses it
 * @throws KernelInterfaceError NATIVE_MISSING, KERNEL_PRIVILEGE, KERNEL_MISSING (no BTF)
 * @throws ConfigError CONFIG_INVALID when it does not load by the BTF of a file (`btf`)
 */
export function loadProbe(
  native: Native,
  probe: string,
  { dispensable = [], ...options }: ProbeOptions = {},
): BpfObject {
  const path = `${packageRoot}build/bpf/${probe}.bpf.o`;
  try {
    return loadWithout(native, path, options, dispensable);
  } catch (cause) {
    throw explainLack(probe, path, cause, options.btf) ?? explainRefusal(probe, cause);
  }
}

/** What is not there to load it with, in the order in which it is wanted; null: the kernel has refused it. */
function explainLack(probe: string, path: string, cause: unknown, btf?: string): Error | null {
  if (cause instanceof SculptorError) return cause;
  if (!existsSync(path))
    return new ProbeError('PROBE_MISSING', `${path}: not built; run "npm run setup"`, {
      program: probe,
    });
  if (btf !== undefined) return explainFile(btf, cause);
  if (existsSync(ownBtf())) return null;
  return new KernelInterfaceError(
    'KERNEL_MISSING',
    `this kernel has no BTF (${ownBtf()}; CONFIG_DEBUG_INFO_BTF=y is wanted): ${probe}.bpf.o cannot be loaded. By its BTF in a file (agent.btf) the run queue alone is told, with agent.driver: bpftrace what its scripts tell. The engine, status and doctor work without.`,
    { path: ownBtf(), remedy: 'a kernel with CONFIG_DEBUG_INFO_BTF=y' },
  );
}

/** What is wrong with the file that `agent.btf` names, by what libbpf says of it; null: nothing that it knows. */
function explainFile(path: string, cause: unknown): ConfigError | null {
  const { code = '', log = '' } = cause as { code?: string; log?: string };
  const refuse = (why: string) =>
    new ConfigError(
      'CONFIG_INVALID',
      `agent.btf: ${path}: ${why}`,
      { path, remedy: howToMakeBtf },
      cause,
    );
  if (log.includes('failed to parse target BTF'))
    return refuse(unread[code] ?? 'not the BTF of a kernel');
  if (log.includes('invalid CO-RE relocation'))
    return refuse('the BTF of another kernel: it lacks what is read');
  return null;
}

const unread: Readonly<Record<string, string>> = { ENOENT: 'not there', EACCES: 'may not be read' };

function loadWithout(
  native: Native,
  path: string,
  options: BpfLoadOptions,
  dispensable: readonly string[],
): BpfObject {
  try {
    return native.loadObject(path, options);
  } catch (cause) {
    // What the verifier rejects is a fault of ours, and no reason to go on; what else is refused is refused again.
    if (dispensable.length === 0 || (cause as { code?: string }).code !== 'EPERM') throw cause;
    return native.loadObject(path, { ...options, without: dispensable });
  }
}

/**
 * Attaches a loaded probe; when something of it is refused the object is closed, and so nothing stays attached.
 * @throws ProbeError, KernelInterfaceError as `loadProbe`
 */
export function attachOrClose(object: BpfObject, probe: string, attach: () => void): void {
  try {
    attach();
  } catch (cause) {
    object.close();
    throw cause instanceof SculptorError ? cause : explainRefusal(probe, cause);
  }
}

/** Why the kernel refused it, and, where it is known, how to mend that. */
function explainErrno(errno: string, absent: readonly string[]): { why: string; remedy?: string } {
  if (absent.length > 0)
    return {
      why: `this process has no ${absent.join(' and no ')}; root, or CAP_BPF and CAP_PERFMON, is wanted`,
    };
  // Debian restricts perf events further than the kernel's own levels, which end at 2.
  const paranoid = readNumber(`${hostRoots.proc}/sys/kernel/perf_event_paranoid`) ?? 0;
  if (errno === 'EACCES' && paranoid > 2)
    return {
      why: `kernel.perf_event_paranoid is ${paranoid}: above 2 perf events take CAP_SYS_ADMIN; "sysctl kernel.perf_event_paranoid=2" lets CAP_PERFMON do`,
      remedy: 'sysctl kernel.perf_event_paranoid=2',
    };
  return {
    why: 'though this process has CAP_BPF and CAP_PERFMON; a security module, a container or lockdown keeps it from that',
  };
}

function explainRefusal(probe: string, cause: unknown): Error {
  const { code, log } = cause as { code?: string; log?: string };
  // The verifier says EACCES too, but not without its log. libbpf's own hint on EPERM is about "ulimit -l", which has meant
  // nothing since 5.11.
  const verified = log?.includes('PROG LOAD LOG') ?? false;
  if (code === 'EPERM' || (code === 'EACCES' && !verified)) {
    const absent = ownLacking(hostRoots, bpfCapabilities);
    const { why, ...remedy } = explainErrno(code, absent);
    return new KernelInterfaceError(
      'KERNEL_PRIVILEGE',
      `the kernel refused ${probe}.bpf.o (${code}): ${why}. The engine, status and doctor work without.`,
      { program: probe, errno: code, absent, ...remedy },
      cause,
    );
  }
  const known = knownRefusals.find(({ says }) => says.test(log ?? ''));
  const why = known?.why ?? describeError(cause);
  return new ProbeError(
    'PROBE_LOAD',
    `${probe}.bpf.o: ${why}${log ? `\n${log.trim().slice(-2000)}` : ''}`,
    { program: probe, verifierLog: log, ...(known ? { remedy: known.remedy } : {}) },
    cause,
  );
}

/** For a person. */
export const howToUnlock = 'boot with lockdown=integrity or without lockdown';
export const howWithoutTrust =
  'another build of the kernel; or agent.driver: bpftrace, whose scripts hand no such pointer on';

/** What the verifier says, and what is behind it. */
const knownRefusals = [
  {
    // Lockdown takes the helper away, and libbpf then takes its older name; where securityfs is not mounted nothing else tells of it.
    says: /(unknown func|cannot use helper) bpf_probe_read(_kernel)?(_str)?#/,
    why: 'this kernel lets no BPF program read its memory (lockdown=confidentiality)',
    remedy: howToUnlock,
  },
  {
    says: /type=untrusted_ptr_/,
    why: 'the verifier of this kernel does not trust a pointer that those of 6.1, 6.12 and other builds of 6.18 do',
    remedy: howWithoutTrust,
  },
];
