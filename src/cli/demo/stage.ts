import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { KernelInterfaceError, ProbeError, SculptorError } from '../../contract/errors.ts';
import { type CgroupLayout, readCgroupLayout } from '../../linux/cgroups.ts';
import { findMemoryHierarchy } from '../../linux/memory.ts';
import { readText } from '../../linux/read-file.ts';
import { hostRoots } from '../../linux/roots.ts';
import { openControllers } from './controllers.ts';

const workload = fileURLToPath(new URL('../../../build/sculpt-workload', import.meta.url));

/** An instance made for a demonstration or a measurement: a cgroup of its own with real processes in it. */
export type StagedInstance = {
  readonly name: string;
  /** The instance id: its path in the hierarchy that names instances. */
  readonly id: string;
  /** Its folders: one on v2, one for each hierarchy used on v1. */
  readonly folders: readonly string[];
  readonly processes: ChildProcess[];
};

export type InstanceOptions = { readonly cpus?: string; readonly memory?: boolean };

/**
 * Everything that is staged, directly under the root of the cpu hierarchy: in a group of their own the instances would
 * compete with each other only, and the control loop, outside, with all of them at once.
 */
export type Stage = {
  readonly layout: CgroupLayout;
  readonly instances: readonly StagedInstance[];
  /**
   * Makes an instance; `cpus` confines it by a cpuset (as `0`). `memory`: on v1 it is given a cgroup of the memory controller
   * too, as services and VMs have one.
   */
  readonly make: (name: string, options?: InstanceOptions) => StagedInstance;
  /** Starts the workload in an instance: it is in its cgroups before its first instruction. */
  readonly run: (instance: StagedInstance, ...workloadArguments: string[]) => ChildProcess;
  /** Resolves when every process is the workload and in its cgroups: until then its state is the shell's. */
  readonly ready: () => Promise<void>;
  /** Ends the processes of an instance, waits for that, and removes its cgroups. */
  readonly remove: (instance: StagedInstance) => Promise<void>;
  /** Removes everything; calling it again does nothing. */
  readonly clear: () => Promise<void>;
};

/**
 * @throws KernelInterfaceError KERNEL_PRIVILEGE, KERNEL_MISSING, which say what is wanted
 */
export function openStage(prefix: string): Stage {
  checkWorkload();
  const layout = readCgroupLayout(hostRoots);
  const instances: StagedInstance[] = [];
  const closeControllers = openControllers(layout);
  let cleared = false;
  const remove = async (instance: StagedInstance) => {
    await endProcesses(instance.processes);
    for (const folder of instance.folders) await removeCgroup(folder);
    instances.splice(instances.indexOf(instance), 1);
  };
  return {
    layout,
    instances,
    make: (name, options = {}) => {
      // Somebody who was interrupted may still be at it: nothing is made that nobody would remove.
      if (cleared) throw new SculptorError('DEMO_FAILED', `${name}: the stage is cleared already`);
      const instance = makeInstance(layout, `${prefix}-${name}`, options);
      instances.push(instance);
      return instance;
    },
    run: (instance, ...args) => {
      const child = spawnInside(instance, args);
      instance.processes.push(child);
      return child;
    },
    ready: async () => {
      for (const { pid } of instances.flatMap(({ processes }) => processes)) await entered(pid);
    },
    remove,
    clear: async () => {
      if (cleared) return;
      cleared = true;
      for (const instance of [...instances].reverse()) await remove(instance);
      closeControllers();
    },
  };
}

function checkWorkload(): void {
  if (!existsSync(workload))
    throw new ProbeError('PROBE_MISSING', `${workload}: not built; run "npm run setup"`);
}

function makeInstance(
  layout: CgroupLayout,
  name: string,
  { cpus, memory }: InstanceOptions,
): StagedInstance {
  const folder = `${layout.cpu}/${name}`;
  makeFolder(folder);
  const folders = [folder];
  if (cpus !== undefined) {
    if (layout.cpuset === null)
      throw new KernelInterfaceError(
        'KERNEL_MISSING',
        'no cpuset controller: instances cannot be confined to a CPU here',
        { path: layout.cpu },
      );
    const cpusetFolder = `${layout.cpuset}/${name}`;
    if (cpusetFolder !== folder) {
      makeFolder(cpusetFolder);
      folders.push(cpusetFolder);
      // A new v1 cpuset is empty, and takes no task before it has memory nodes.
      writeFileSync(`${cpusetFolder}/cpuset.mems`, readFileSync(`${layout.cpuset}/cpuset.mems`));
    }
    writeFileSync(`${cpusetFolder}/cpuset.cpus`, cpus);
  }
  const memoryRoot = memory ? findMemoryHierarchy(hostRoots) : null;
  if (memoryRoot?.version === 1) {
    const memoryFolder = `${memoryRoot.root}/${name}`;
    makeFolder(memoryFolder);
    folders.push(memoryFolder);
  }
  return { name, id: `/${name}`, folders, processes: [] };
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new KernelInterfaceError(
      code === 'EACCES' || code === 'EPERM' ? 'KERNEL_PRIVILEGE' : 'KERNEL_IO',
      `${folder}: cannot make a cgroup (${code}); root is wanted`,
      { path: folder, errno: code },
      cause,
    );
  }
}

/** A shell enters the cgroups and becomes the workload. A group of its own: Ctrl-C is for the one who staged it, who tidies up in order. */
function spawnInside(instance: StagedInstance, args: readonly string[]): ChildProcess {
  const enter = instance.folders.map(folder => `echo $$ > '${folder}/cgroup.procs'`).join(' && ');
  return spawn('sh', ['-c', `${enter} && exec "$0" "$@"`, workload, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
}

async function entered(pid: number | undefined): Promise<void> {
  // The kernel's name of a task has 15 characters at most.
  const wanted = basename(workload).slice(0, 15);
  for (let attempt = 0; readText(`/proc/${pid}/comm`) !== wanted; attempt += 1) {
    if (attempt === 250)
      throw new SculptorError('DEMO_FAILED', `process ${pid} did not become ${wanted}`);
    await sleep(20);
  }
}

async function endProcesses(processes: ChildProcess[]): Promise<void> {
  const ended = processes.filter(hasNotEnded).map(
    child =>
      new Promise<void>(resolve => {
        child.once('exit', () => resolve());
        child.kill('SIGKILL');
      }),
  );
  await Promise.all(ended);
  processes.length = 0;
}

function hasNotEnded(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null && child.pid !== undefined;
}

/** The kernel lets go of a cgroup a moment after its last task was reaped. */
async function removeCgroup(folder: string): Promise<void> {
  for (let attempt = 0; existsSync(folder); attempt += 1) {
    try {
      rmdirSync(folder);
    } catch (cause) {
      if (attempt === 100)
        throw new KernelInterfaceError(
          'KERNEL_IO',
          `${folder}: cannot be removed`,
          { path: folder },
          cause,
        );
      await sleep(20);
    }
  }
}
