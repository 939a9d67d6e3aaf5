/**
 * The catalogue of error codes. Each names one thing that can be wrong; docs/errors.md is generated from it.
 */
export const errorCodes = {
  CONFIG_UNREADABLE: 'The configuration file cannot be read or is not YAML.',
  CONFIG_INVALID: 'A configuration key is unknown, of the wrong type, or out of its bounds.',
  CONFIG_KEYS_MISSING: 'The signing key, or a trusted public key, is absent or malformed.',
  CONFIG_OUTPUT:
    'A file that is to be made or written to (profiles, a report, keys) cannot be, or standard output not be written to.',
  CONFIG_SOCKET: 'A socket cannot be bound, or belongs to a running part.',
  CONFIG_NOT_RUNNING: 'The part that was asked is not running (nothing listens on its socket).',
  CONFIG_REFUSED: 'The part that was asked refused the request.',
  KERNEL_PRIVILEGE: 'The process lacks the capability (or root) that the kernel asks for.',
  KERNEL_MISSING:
    'The kernel lacks what is asked for (a file, a hook, a module, a controller, a type of program or map), or setpriv of util-linux is not there.',
  KERNEL_BUSY: 'Something of the kernel that one at a time can use is in use by somebody else.',
  KERNEL_IO: 'A kernel file could not be read or written.',
  QMP_UNAVAILABLE:
    'A QEMU did not answer over its QMP socket: gone, held by another client, or a refused command.',
  NATIVE_MISSING: 'The native addon is not built, or does not load.',
  PROBE_MISSING: 'A BPF object file is not built.',
  PROBE_LOAD: 'The verifier or libbpf refused a BPF program.',
  CUSTOM_PROBE_INVALID:
    "A custom probe's header is absent or wrong, or prints or fills its map in a way that cannot be told; another has a metric of that name; there are more than may be; or its file is too large, or not one that only its owner can write.",
  BPFTRACE_FAILED: 'bpftrace is not there, refused a program, or ended.',
  MODEL_MANIFEST: 'A model manifest is missing or malformed.',
  MODEL_HASH: 'The sha256 of a model differs from its manifest.',
  MODEL_TENSOR: 'The tensors of a model differ from its manifest.',
  MODEL_RUN: 'Inference failed.',
  OTLP_MALFORMED: 'An OTLP message is cut off or is not protobuf.',
  OTLP_TOO_MANY: 'An OTLP request of a guest has more resources or records than are taken at once.',
  EVENT_INVALID: 'A sculptor.* event lacks an attribute or has a wrong one.',
  EVENT_SIGNATURE: 'A signature is absent, or does not match any trusted engine.',
  ACTUATION_TARGET: 'The target (CPU, cpuset, cgroup) does not exist or is not allowed.',
  ACTUATION_WRITE: 'The kernel refused a change.',
  ACTUATION_READBACK: 'The kernel accepted a change, and what it holds now is another value.',
  DEMO_FAILED: 'A scene of the demonstration, or a benchmark, did not go as it must.',
  JOURNAL: 'The journal cannot be opened or written.',
} as const;

export type ErrorCode = keyof typeof errorCodes;

/** `remedy`, where who throws it knows one: how to get what is missing, for a person. */
export type ErrorContext = Readonly<Record<string, unknown>>;

/** Base of every error this product throws on purpose: a code of the catalogue, what was met, and its cause. */
export class SculptorError extends Error {
  readonly code: ErrorCode;
  readonly context: ErrorContext;

  constructor(code: ErrorCode, message: string, context: ErrorContext = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.code = code;
    this.context = context;
  }
}

/** The user must act: a key, a file, a flag. */
export class ConfigError extends SculptorError {}

/** The kernel answered otherwise than expected; `context` has `path` and, where there is one, `errno`. */
export class KernelInterfaceError extends SculptorError {}

/** A BPF program was refused; `context` has `program` and `verifierLog`. */
export class ProbeError extends SculptorError {}

/** A model is not what its manifest says; `context` has `expected` and `actual`. */
export class ModelError extends SculptorError {}

/** Bytes from outside are not what they claim; `context` has `at` (offset or path), `wanted`, `got`. */
export class ProtocolError extends SculptorError {}

/** A change of the system failed; `context` has `resource`, `attempted`, `previous`. */
export class ActuationError extends SculptorError {}

/** The message of anything that was thrown, with its code where it has one. */
export function describeError(error: unknown): string {
  if (error instanceof SculptorError) return `${error.code}: ${error.message}`;
  return error instanceof Error ? error.message : String(error);
}
