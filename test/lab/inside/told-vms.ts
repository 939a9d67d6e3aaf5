/**
 * Inside the lab: a whole agent, and each second what it has told of some VMs, as JSON in a file:
 * `node told-vms.ts FILE UUID…`. Runs until it is ended.
 */
import { renameSync, writeFileSync } from 'node:fs';
import type { Placement } from '../../../src/contract/host.ts';
import type { MetricPoint } from '../../../src/contract/telemetry.ts';
import { startTold } from '../../support/told-agent.ts';

export type ToldVms = {
  /** By name of a source: `running`, or why it is not. */
  readonly sources: Readonly<Record<string, string>>;
  readonly lost: Readonly<Record<string, number>>;
  readonly vms: Readonly<Record<string, ToldVm>>;
};

export type ToldVm = {
  readonly placement: Placement | undefined;
  /** The last point of each series of a vCPU. */
  readonly vcpus: readonly { metric: string; vcpu: number; reason?: string; value: number }[];
  /** The last values of its drives, by metric, device and direction: `operations vda write`. */
  readonly drives: Readonly<Record<string, number>>;
  /** The last values of its interfaces, likewise: `packets tap0 receive`. */
  readonly interfaces: Readonly<Record<string, number>>;
};

const [file = '/tmp/told.json', ...uuids] = process.argv.slice(2);
const told = await startTold({ placementIntervalSeconds: 5, detailIntervalSeconds: 2 });

/** By instance: the last point of each series, and of how many points. An emulated machine is slow: each is gone over once. */
const known = new Map(
  uuids.map(uuid => [uuid, { count: 0, last: new Map<string, MetricPoint>() }]),
);

function lastOf(uuid: string): MetricPoint[] {
  const of = known.get(uuid) ?? { count: 0, last: new Map() };
  const all = told.allPointsOf(uuid);
  for (const point of all.slice(of.count))
    of.last.set(`${point.metric} ${JSON.stringify(point.attributes)}`, point);
  of.count = all.length;
  return [...of.last.values()];
}

function vcpusOf(points: readonly MetricPoint[]): ToldVm['vcpus'] {
  return points.flatMap(({ metric, attributes, value }) => {
    const [vcpu, reason] = [
      attributes['sculptor.vcpu.index'],
      attributes['sculptor.vcpu.exit_reason'],
    ];
    if (!/^sculptor\.(vcpu|task)\./.test(metric) || typeof vcpu !== 'number') return [];
    return [
      { metric, vcpu, ...(typeof reason === 'string' ? { reason } : {}), value: Number(value) },
    ];
  });
}

function drivesOf(points: readonly MetricPoint[]): ToldVm['drives'] {
  return Object.fromEntries(
    points.flatMap(({ metric, attributes, value }) => {
      const what = /^sculptor\.vdisk\.(io|operations|time)$/.exec(metric)?.[1];
      if (what === undefined) return [];
      const of = `${what} ${attributes['system.device']} ${attributes['disk.io.direction']}`;
      return [[of, Number(value)]];
    }),
  );
}

function interfacesOf(points: readonly MetricPoint[]): ToldVm['interfaces'] {
  return Object.fromEntries(
    points.flatMap(({ metric, attributes, value }) => {
      const what = /network\.(?:interface\.)?(io|packets|dropped)$/.exec(metric)?.[1];
      const name = attributes['network.interface.name'];
      if (what === undefined || name === undefined) return [];
      return [[`${what} ${name} ${attributes['network.io.direction']}`, Number(value)]];
    }),
  );
}

setInterval(() => {
  const { sources, lost } = told.agent.status();
  const vms = Object.fromEntries(
    uuids.map(uuid => {
      const points = lastOf(uuid);
      const vm: ToldVm = {
        placement: told.placementsOf(uuid).at(-1),
        vcpus: vcpusOf(points),
        drives: drivesOf(points),
        interfaces: interfacesOf(points),
      };
      return [uuid, vm];
    }),
  );
  writeFileSync(`${file}.new`, JSON.stringify({ sources, lost, vms } satisfies ToldVms));
  renameSync(`${file}.new`, file);
}, 1000);
