import { latencySlots } from '../probes/latency.ts';
import type { NetProbe, NetTotals } from '../probes/net.ts';
import type { ComesAndGoes } from '../sources/source.ts';
import { keysOfCgroups, pick, wordsByCgroup } from './by-cgroup.ts';
import { type ScriptContext, startCountingScript } from './script.ts';

/**
 * Starts bpf/net.bt, which looks at sockets by itself.
 * @throws KernelInterfaceError KERNEL_MISSING before Linux 6.3
 */
export function startNetScript(context: ScriptContext): NetProbe & ComesAndGoes {
  const script = startCountingScript(context, {
    file: 'bpf/net.bt',
    maps: ['words', 'rtt'],
    others: ['lost'],
    tracepoints: [
      'sock:inet_sock_set_state',
      'sock:sock_send_length',
      'sock:sock_recv_length',
      'tcp:tcp_destroy_sock',
    ],
    since: 'Linux 6.3',
  });
  const readTotals = () => decodeNetWords(script.sums('words'), script.sums('rtt'));
  return {
    look: () => undefined,
    own: () => undefined,
    readTotals,
    forget: ids => {
      const last = pick(readTotals(), ids);
      script.drop(keysOfCgroups(ids));
      return last;
    },
    lost: () => {
      const lost = script.sums('lost');
      return { ...script.losses(), owner: lost.get('0') ?? 0, recursion: lost.get('1') ?? 0 };
    },
    trouble: script.trouble,
    attached: script.attached,
    stop: script.stop,
  };
}

/** Of `@words[cgroup, word]` and `@rtt[cgroup, slot]`. */
export function decodeNetWords(
  words: ReadonlyMap<string, number>,
  rtt: ReadonlyMap<string, number>,
): Map<number, NetTotals> {
  const slots = wordsByCgroup(rtt, latencySlots);
  return new Map(
    [...wordsByCgroup(words, 6)].map(([id, own]) => [
      id,
      totalsOf(own, slots.get(id) ?? new Float64Array(latencySlots)),
    ]),
  );
}

function totalsOf(words: Float64Array, slots: Float64Array): NetTotals {
  const [receivedBytes = 0, sentBytes = 0, receivedPackets = 0, sentPackets = 0] = words;
  const [retransmits = 0, latencySumNs = 0] = words.subarray(4);
  const latencyCount = slots.reduce((all, count) => all + count, 0);
  return {
    ...{ receivedBytes, sentBytes, receivedPackets, sentPackets, retransmits },
    rtt: { latencyCount, latencySumNs, slots },
  };
}
