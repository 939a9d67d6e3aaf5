import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openStage, type StagedInstance } from '../../../src/cli/demo/stage.ts';
import type { Looked } from '../../../src/cli/demo/state.ts';

export type Tenant = Looked & { readonly name: string; readonly id: string };

/** Where tenants live: in cgroups that nobody owns, or in services of systemd. */
export type Tenancy = {
  /** Starts the workload in a cgroup of its own under the root, all of one weight; `cpus` confines it. */
  readonly add: (name: string, workload: readonly string[], cpus?: string) => Tenant;
  readonly ready: () => Promise<void>;
  readonly remove: (tenant: Tenant) => Promise<void>;
  readonly clear: () => Promise<void>;
};

const workloadFile = fileURLToPath(new URL('../../../build/sculpt-workload', import.meta.url));

export function openTenancy(prefix: string): Tenancy {
  return existsSync('/run/systemd/system') ? inUnits(prefix) : inCgroups(prefix);
}

function inCgroups(prefix: string): Tenancy {
  const stage = openStage(prefix);
  const staged = new Map<Tenant, StagedInstance>();
  return {
    add: (name, workload, cpus) => {
      const instance = stage.make(name, cpus === undefined ? {} : { cpus });
      stage.run(instance, ...workload);
      staged.set(instance, instance);
      return instance;
    },
    ready: stage.ready,
    remove: async tenant => {
      const instance = staged.get(tenant);
      if (instance) await stage.remove(instance);
      staged.delete(tenant);
    },
    clear: stage.clear,
  };
}

/** Transient services in the root slice, each with a weight of its own so that systemd enables the controller for them. */
function inUnits(prefix: string): Tenancy {
  const units = new Set<string>();
  const systemctl = (...args: string[]) => execFileSync('systemctl', args, { encoding: 'utf8' });
  const stop = (unit: string) => {
    systemctl('stop', unit);
    units.delete(unit);
  };
  return {
    add: (name, workload, cpus) => {
      const unit = `${prefix}-${name}.service`;
      units.add(unit);
      execFileSync('systemd-run', [
        ...['--quiet', '--collect', `--unit=${unit}`, '--slice=-.slice', '--property=Type=exec'],
        ...['--property=CPUWeight=100', ...(cpus ? [`--property=AllowedCPUs=${cpus}`] : [])],
        ...['--property=StandardInput=null', workloadFile, ...workload],
      ]);
      const pid = Number(systemctl('show', '--value', '--property=MainPID', unit));
      const id = `/${unit}`;
      return { name, id, folders: [`/sys/fs/cgroup${id}`], processes: [{ pid }] };
    },
    ready: async () => undefined,
    remove: async tenant => stop(tenant.id.slice(1)),
    clear: async () => {
      for (const unit of units) stop(unit);
    },
  };
}
