/**
 * Inside the lab: an agent with `driver: bpftrace` that tells of KVM's vCPUs, and the libbpf probe beside it; each second what both say
 * of the VM whose instance it is given, as JSON in a file: `node kvm-parity.ts FILE UUID`. Runs until it is ended.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { startKvmProbe } from '../../../src/agent/probes/kvm.ts';
import { vcpuSamples } from '../../../src/agent/vms/kvm-source.ts';
import { loadNative } from '../../../src/linux/native.ts';
import { hostRoots } from '../../../src/linux/roots.ts';
import { attributesOf } from '../../../src/otlp/sample.ts';
import { startTold } from '../../support/told-agent.ts';

/** By vCPU and metric, and by reason where there is one: `0 sculptor.vcpu.exits hlt`. */
type Values = Readonly<Record<string, number>>;

export type KvmParity = {
  /** `running`, or why it is not. */
  readonly source: string;
  readonly libbpf: Values;
  readonly bpftrace: Values;
  readonly lost: Readonly<Record<string, number>>;
};

const [file = '/tmp/parity.json', uuid = ''] = process.argv.slice(2);
// The other sources would each be one more bpftrace: an emulated machine compiles for half a minute.
const told = await startTold({
  driver: 'bpftrace',
  detailIntervalSeconds: 2,
  profile: 'minimal',
  metrics: { include: ['sculptor.vcpu.*'], exclude: [] },
});
const probe = startKvmProbe({ native: loadNative(), roots: hostRoots, cgroupV1: false });

function valuesOf(
  points: readonly {
    metric: unknown;
    attributes: Readonly<Record<string, unknown>>;
    value: unknown;
  }[],
): Values {
  return Object.fromEntries(
    points.flatMap(({ metric, attributes, value }) => {
      if (!/^sculptor\.vcpu\.(exit|halt|wakeup)/.test(String(metric))) return [];
      const reason = attributes['sculptor.vcpu.exit_reason'];
      const vcpu = attributes['sculptor.vcpu.index'];
      return [[[vcpu, metric, reason].filter(part => part !== undefined).join(' '), Number(value)]];
    }),
  );
}

setInterval(() => {
  const parity: KvmParity = {
    source: told.agent.status().sources['kvm'] ?? 'absent',
    libbpf: valuesOf(
      probe
        .read()
        .flatMap(one => vcpuSamples(one, one.index, 0))
        .map(sample => ({ ...sample, attributes: attributesOf(sample) })),
    ),
    bpftrace: valuesOf(told.allPointsOf(uuid)),
    lost: told.agent.status().lost,
  };
  writeFileSync(`${file}.new`, JSON.stringify(parity));
  renameSync(`${file}.new`, file);
}, 1000);
