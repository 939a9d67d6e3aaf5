import { describeError, type ErrorCode, SculptorError } from '../../contract/errors.ts';
import { type Check, missing } from './check.ts';

/** What a check finds; where it throws, that it is missing, why, and how to get it. */
export function attempt(name: string, needed: boolean, lost: string, check: () => Check): Check {
  try {
    return check();
  } catch (error) {
    return lacking(name, needed, lost, error);
  }
}

/** That it is missing, by what was thrown. */
export function lacking(name: string, needed: boolean, lost: string, error: unknown): Check {
  const found = describeError(error).split('\n')[0] ?? 'failed';
  return missing(name, needed, { found, lost, how: remedyOf(error) });
}

const byCode: Partial<Record<ErrorCode, string>> = {
  PROBE_MISSING: 'npm run setup',
  NATIVE_MISSING: 'npm run setup',
  BPFTRACE_FAILED: 'mend what bpftrace says; the check "bpftrace" is below',
  KERNEL_BUSY:
    'nothing is to be done where its owner needs it: the agent looks once a minute whether it is free, and takes it then',
  KERNEL_PRIVILEGE:
    'what refuses it to a process that has the capabilities: a security module, a container, or lockdown; see the lines above',
  PROBE_LOAD:
    'a kernel on which docs/kernels.md says that it counts; see also BTF and lockdown above',
};

/** For a person: what who threw it knows, else what its code says; null: not known. */
function remedyOf(error: unknown): string | null {
  if (!(error instanceof SculptorError)) return null;
  const { remedy, absent } = error.context;
  if (typeof remedy === 'string') return remedy;
  return Array.isArray(absent) && absent.length > 0
    ? `run as root, or give the service ${absent.join(', ')}`
    : (byCode[error.code] ?? null);
}
