import { nsPerTick } from '../../linux/own-masks.ts';
import { type OutlierProbe, type Party, type RawOutlier, waysToBegin } from '../probes/outliers.ts';
import { namesIn } from './kernel-names.ts';
import { type ScriptContext, startCountingScript } from './script.ts';

const tracepoints = [
  'irq:irq_handler_entry',
  'irq:irq_handler_exit',
  'irq:softirq_entry',
  'irq:softirq_exit',
  'timer:hrtimer_expire_entry',
  'timer:hrtimer_expire_exit',
  'sched:sched_waking',
  'sched:sched_wakeup',
  'sched:sched_wakeup_new',
  'sched:sched_migrate_task',
  'sched:sched_switch',
  'sched:sched_process_free',
] as const;

/** Until they are taken, as of the libbpf probe. */
const mostKept = 4096;

/**
 * Starts bpf/outliers.bt, which tells what bpf/outliers.bpf.c does, a line each.
 * @throws KernelInterfaceError KERNEL_MISSING where a tracepoint is not there
 */
export function startOutliersScript(
  context: ScriptContext,
  asked: { readonly aboveSeconds: number; readonly perInstancePerSecond: number },
): OutlierProbe {
  const fields = namesIn(context.kernelBtf, differing);
  let kept: RawOutlier[] = [];
  let dropped = 0;
  const script = startCountingScript(context, {
    file: 'bpf/outliers.bt',
    parameters: [String(Math.round(asked.aboveSeconds * 1e9)), String(asked.perInstancePerSecond)],
    fit: program => forKernel(program, fields),
    maps: [],
    others: ['found', 'limited'],
    tracepoints,
    text: text => {
      const outlier = kept.length < mostKept ? parseOutlier(text) : null;
      if (outlier) kept.push(outlier);
      else dropped += 1;
    },
  });
  const count = (map: string): number => script.sums(map).get('') ?? 0;
  return {
    take: () => {
      const taken = kept;
      kept = [];
      return taken.sort((a, b) => a.endedNs - b.endedNs);
    },
    counts: () => {
      const losses = script.losses();
      return {
        found: count('found'),
        limited: count('limited'),
        full: losses.lost_events + losses.line_too_long + losses.malformed_lines + dropped,
        memory: losses.map_full + losses.helper_failed,
      };
    },
    trouble: script.trouble,
    attached: script.attached,
    stop: script.stop,
  };
}

/** Of one line, before the stack. */
const numberOfFields = 15;
/** PF_KTHREAD of the waiter, which is added to how its wait began. */
const kernelThread = 0x20_0000;
/** Of the root, and of its tasks in an autogroup, which has no cgroup. */
const [rootId, autogroupId] = [1, 0];

/** One line of bpf/outliers.bt; null: none of it. Names are in hexadecimal, so that no name can be taken for something else. */
export function parseOutlier(text: string): RawOutlier | null {
  const all = text.split(';');
  if (all.length <= numberOfFields) return null;
  const numbers = all.slice(0, 6).map(Number);
  const [endedNs = 0, latencyNs = 0, throttledNs = 0, bootNs = 0, kind = 0, cpu = 0] = numbers;
  const waiter = partyOf(all.slice(6, 9));
  const began = waysToBegin[kind % kernelThread];
  if (!numbers.every(Number.isSafeInteger) || !waiter || began === undefined) return null;
  // ksoftirqd/CPU and irq/NUMBER-NAME: woken when the interrupt is over as far as its hooks tell.
  const continues = kind >= kernelThread && /^(ksoftirq|irq\/)/.test(waiter.name);
  return {
    endedNs,
    latencyNs,
    throttledNs,
    startTicks: Math.floor(bootNs / nsPerTick),
    waiter,
    began,
    waker: began === 'woken' && !continues ? partyOf(all.slice(9, 12)) : null,
    preemptor: partyOf(all.slice(12, 15)),
    cpu,
    stack: stackOf(all.slice(numberOfFields).join(';')),
  };
}

/** Its cgroup, its tid in the upper half of a word with its tgid, and its name as `73 70 69 6e 00`; null: nobody. */
function partyOf([id = '', ids = '', comm = '']: readonly string[]): Party | null {
  if (!/^\d+$/.test(id) || !/^\d+$/.test(ids)) return null;
  const tid = Number(BigInt(ids) >> 32n);
  if (tid === 0) return null;
  const name = Buffer.from(comm.replaceAll(' ', ''), 'hex');
  const end = name.indexOf(0);
  return {
    cgroupId: Number(id) === autogroupId ? rootId : Number(id),
    tid,
    tgid: Number(BigInt(ids) & 0xffff_ffffn),
    name: name.toString('utf8', 0, end < 0 ? name.length : end),
  };
}

/** Of lines `\tffffffff821f8b58 __schedule+1560`, without that by which the tracepoint calls. */
function stackOf(text: string): bigint[] {
  return [...text.matchAll(/^\t([0-9a-f]+)\b(?! __traceiter_)/gm)].map(([, address]) =>
    BigInt(`0x${address}`),
  );
}

/** Fields of the kernel's structures in which kernels differ: bpf/include/core_fixes.bpf.h has since when. */
const differing = [
  'sched_throttle_work',
  'throttled_clock_self_time',
  'throttled_clock_pelt_time',
  'throttle_count',
] as const;

type Fields = ReadonlySet<(typeof differing)[number]>;

function accountOf(fields: Fields): 'self' | 'pelt' | 'none' {
  if (!fields.has('throttle_count')) return 'none';
  if (fields.has('throttled_clock_self_time')) return 'self';
  return fields.has('throttled_clock_pelt_time') ? 'pelt' : 'none';
}

/** The script as a kernel with these fields takes it: bpftrace refuses a program that names a field which is not there. */
export function forKernel(program: string, fields: Fields): string {
  const account = accountOf(fields);
  const held =
    account === 'none'
      ? program.replaceAll(/\$\w+->throttled\b/g, '0 != 0')
      : fields.has('sched_throttle_work')
        ? program
        : program.replaceAll(/(\$\w+)->throttled\b/g, '$1->se.cfs_rq->throttle_count > 0');
  if (account === 'self') return held;
  if (account === 'none')
    return held.replaceAll(/\$\w+->(throttled_clock_self(_time)?|throttle_count)\b/g, '0');
  return held
    .replaceAll('->throttled_clock_self', '->throttled_clock_pelt')
    .replaceAll(/(\$\w+->rq)->clock\b/g, '($1->clock_pelt - $1->lost_idle_time)');
}
