/**
 * Inside the lab: a whole agent, and each second what it has told of some VMs, as JSON in a file:
 * `node told-vms.ts FILE UUID…`. Runs until it is ended.
 */
import { renameSync, writeFileSync } from 'node:fs';
import type { Placement } from '../../../src/contract/host.ts';
import { type MetricName, metrics } from '../../../src/contract/metrics.ts';
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
};

const [file = '/tmp/told.json', ...uuids] = process.argv.slice(2);
const names = (Object.keys(metrics) as MetricName[]).filter(name =>
  /^sculptor\.(vcpu|task)\./.test(name),
);
const told = await startTold({ placementIntervalSeconds: 5, detailIntervalSeconds: 2 });

function vcpusOf(uuid: string): ToldVm['vcpus'] {
  const last = new Map<string, MetricPoint>();
  for (const name of names)
    for (const point of told.pointsOf(name, uuid))
      last.set(`${name} ${JSON.stringify(point.attributes)}`, point);
  return [...last.values()].flatMap(({ metric, attributes, value }) => {
    const [vcpu, reason] = [
      attributes['sculptor.vcpu.index'],
      attributes['sculptor.vcpu.exit_reason'],
    ];
    if (typeof vcpu !== 'number') return [];
    return [
      { metric, vcpu, ...(typeof reason === 'string' ? { reason } : {}), value: Number(value) },
    ];
  });
}

function drivesOf(uuid: string): ToldVm['drives'] {
  const points = (['io', 'operations', 'time'] as const).flatMap(what =>
    told
      .pointsOf(`sculptor.vdisk.${what}`, uuid)
      .map(({ attributes, value }) => [
        `${what} ${attributes['system.device']} ${attributes['disk.io.direction']}`,
        Number(value),
      ]),
  );
  return Object.fromEntries(points);
}

setInterval(() => {
  const { sources, lost } = told.agent.status();
  const vms = Object.fromEntries(
    uuids.map(uuid => [
      uuid,
      {
        placement: told.placementsOf(uuid).at(-1),
        vcpus: vcpusOf(uuid),
        drives: drivesOf(uuid),
      } satisfies ToldVm,
    ]),
  );
  writeFileSync(`${file}.new`, JSON.stringify({ sources, lost, vms } satisfies ToldVms));
  renameSync(`${file}.new`, file);
}, 1000);
