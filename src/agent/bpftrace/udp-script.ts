import type { UdpProbe, UdpTotals } from '../probes/udp.ts';
import type { ComesAndGoes } from '../sources/source.ts';
import { keysOfCgroups, pick, wordsByCgroup } from './by-cgroup.ts';
import { type ScriptContext, startCountingScript } from './script.ts';

/**
 * Starts bpf/udp.bt, which counts as bpf/udp.bpf.c does.
 * @throws KernelInterfaceError KERNEL_MISSING before Linux 6.3
 */
export function startUdpScript(context: ScriptContext): UdpProbe & ComesAndGoes {
  const script = startCountingScript(context, {
    file: 'bpf/udp.bt',
    maps: ['words'],
    tracepoints: ['sock:sock_send_length', 'sock:sock_recv_length'],
    since: 'Linux 6.3',
  });
  const readTotals = () => decodeUdpWords(script.sums('words'));
  return {
    readTotals,
    forget: ids => {
      const last = pick(readTotals(), ids);
      script.drop(keysOfCgroups(ids));
      return last;
    },
    lost: script.losses,
    trouble: script.trouble,
    attached: script.attached,
    stop: script.stop,
  };
}

/** Of `@words[cgroup, word]`. */
export function decodeUdpWords(sums: ReadonlyMap<string, number>): Map<number, UdpTotals> {
  return new Map([...wordsByCgroup(sums, 4)].map(([id, words]) => [id, totalsOf(words)]));
}

function totalsOf(words: Float64Array): UdpTotals {
  const [receivedBytes = 0, sentBytes = 0, receivedPackets = 0, sentPackets = 0] = words;
  return { receivedBytes, sentBytes, receivedPackets, sentPackets };
}
