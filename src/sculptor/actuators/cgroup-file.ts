import { closeSync, constants, openSync, statSync, writeSync } from 'node:fs';
import { ActuationError, describeError } from '../../contract/errors.ts';
import { cgroupFolder } from '../../linux/cgroups.ts';
import { ownerOf } from '../../linux/placement.ts';
import { readText } from '../../linux/read-file.ts';
import type { Kernel } from '../kernel.ts';
import { type UnitProperty, unitAt } from '../units.ts';
import type { Problem, UndoEntry, UndoKind, UndoResult } from './actuator.ts';

/** Folder of a cgroup in the hierarchy that a file belongs to. */
export function folderOf(kernel: Kernel, path: string, file: string): string {
  const { cpu, cpuset } = kernel.layout;
  return cgroupFolder(file.startsWith('cpuset.') ? (cpuset ?? cpu) : cpu, path);
}

/** Inode of the folder; null when the cgroup is gone. */
function inodeOf(folder: string): number | null {
  return statSync(folder, { throwIfNoEntry: false })?.ino ?? null;
}

/** What keeps a cgroup file from being written at all: no such cgroup, the root, another owner, no such file. */
export function cgroupProblems(kernel: Kernel, path: string, file: string): Problem[] {
  if (!path.startsWith('/') || path.split('/').includes('..')) {
    return [problem('no-actuator', `instance ${path}: it has no cgroup path; wanted one from /`)];
  }
  if (path === '/') return [problem('protected', 'the root cgroup is never moved')];
  const owned = ownerProblem(kernel, path, file);
  if (owned) return [owned];
  const folder = folderOf(kernel, path, file);
  if (inodeOf(folder) === null)
    return [problem('not-found', `${folder}: no such cgroup (any more)`)];
  return readText(`${folder}/${file}`) === null
    ? [problem('no-actuator', `${folder}/${file}: this kernel or hierarchy has no such file`)]
    : [];
}

/** What systemd calls the setting of a cgroup file; on v1 its units have no cpusets, and weights of another scale. */
const unitProperties: Readonly<Record<string, UnitProperty>> = {
  'cpu.weight': 'CPUWeight',
  'cpuset.cpus': 'AllowedCPUs',
};

type UnitSetting = { readonly unit: string; readonly property: UnitProperty };

/** The setting of systemd's that a cgroup file is; null when systemd does not own the cgroup or has no word for it. */
function unitSettingOf(kernel: Kernel, path: string, file: string): UnitSetting | null {
  if (ownerOf(kernel, path) !== 'systemd' || kernel.layout.version !== 2) return null;
  const [unit, property] = [unitAt(path), unitProperties[file]];
  return unit !== null && property !== undefined ? { unit, property } : null;
}

/**
 * Why a cgroup, or the threads in it (`file` absent), must be left to an owner. Through systemd's own API weights and
 * cpusets of its units are set; there is none yet for anything else, or for other owners.
 */
export function ownerProblem(kernel: Kernel, path: string, file?: string): Problem | null {
  const owner = ownerOf(kernel, path);
  if (owner === 'none') return null;
  const setting = file === undefined ? null : unitSettingOf(kernel, path, file);
  if (setting === null) {
    return problem(
      'owned',
      `cgroup ${path} is owned by ${owner}: its own API is wanted, and this version has none for ${file ?? 'the masks of its threads'}`,
    );
  }
  return kernel.units.isSet(setting.unit, setting.property)
    ? problem(
        'owned',
        `${setting.unit}: somebody has set ${setting.property} at run time (systemctl set-property): left to them`,
      )
    : null;
}

export function problem(code: Problem['code'], message: string): Problem {
  return { code, message };
}

export function fileEntry(
  kernel: Kernel,
  kind: UndoKind,
  path: string,
  file: string,
  wanted: string,
): UndoEntry {
  const folder = folderOf(kernel, path, file);
  const before = readText(`${folder}/${file}`);
  const identity = inodeOf(folder);
  if (before === null || identity === null) {
    throw new ActuationError('ACTUATION_TARGET', `${folder}/${file}: gone meanwhile`, {
      resource: `cgroup:${path}:${file}`,
    });
  }
  const resource = `cgroup:${path}:${file}`;
  return { resource, kind, key: path, identity, before, wanted, ownMask: null, tgid: 0 };
}

/** File of an entry: the last part of its resource. */
function fileOf(entry: UndoEntry): string {
  return entry.resource.slice(entry.resource.lastIndexOf(':') + 1);
}

/** The value now; null when the cgroup is gone, also when another has its path. */
export function heldBy(kernel: Kernel, entry: UndoEntry): string | null {
  const folder = folderOf(kernel, entry.key, fileOf(entry));
  return inodeOf(folder) === entry.identity ? readText(`${folder}/${fileOf(entry)}`) : null;
}

/** Writes a value as the kernel takes it; a lone newline is how a list is made empty. @throws ActuationError ACTUATION_WRITE */
export function writeCgroupFile(kernel: Kernel, entry: UndoEntry, value: string): void {
  const path = `${folderOf(kernel, entry.key, fileOf(entry))}/${fileOf(entry)}`;
  try {
    // Without O_CREAT: a file that the kernel does not have is an error, never made.
    const fd = openSync(path, constants.O_WRONLY | constants.O_TRUNC);
    try {
      writeSync(fd, `${value}\n`);
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    throw new ActuationError(
      'ACTUATION_WRITE',
      `${path}: the kernel refused "${value}": ${describeError(cause)}`,
      { resource: entry.resource, attempted: value, previous: entry.before },
      cause,
    );
  }
}

/** Applies entries one by one, by the owner's way where there is one; a cgroup that another has replaced is not written. */
export function applyFiles(kernel: Kernel, entries: readonly UndoEntry[]): void {
  for (const entry of entries) {
    if (heldBy(kernel, entry) === null) {
      throw new ActuationError('ACTUATION_TARGET', `${entry.resource}: gone meanwhile`, {
        resource: entry.resource,
      });
    }
    const setting = unitSettingOf(kernel, entry.key, fileOf(entry));
    if (setting === null) {
      writeCgroupFile(kernel, entry, entry.wanted);
      continue;
    }
    kernel.units.set(setting.unit, setting.property, entry.wanted);
    waitUntilHeld(kernel, entry, entry.wanted, unitFollowsMs);
  }
}

/** systemd answers before it writes the cgroup: for so long it is waited for, and where it may have nothing to write. */
const unitFollowsMs = 2000;
const unitMayFollowMs = 250;

function waitUntilHeld(kernel: Kernel, entry: UndoEntry, value: string, mostMs: number): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const deadline = performance.now() + mostMs;
  while (heldBy(kernel, entry) !== value && performance.now() < deadline)
    Atomics.wait(pause, 0, 0, 2);
}

/** What is set through systemd outlives the cgroup: a unit that was started again has it in its new one. */
function asItIsNow(kernel: Kernel, entry: UndoEntry): UndoEntry {
  const setting = unitSettingOf(kernel, entry.key, fileOf(entry));
  if (setting === null || valueNow(kernel, setting) !== entry.wanted) return entry;
  const identity = inodeOf(folderOf(kernel, entry.key, fileOf(entry)));
  return identity === null ? entry : { ...entry, identity };
}

function valueNow(kernel: Kernel, { unit, property }: UnitSetting): string | null {
  return kernel.units.valueNow(unit, property);
}

/** Gives values back that still are ours; those of systemd's units first by its own way. */
export function undoFiles(kernel: Kernel, given: readonly UndoEntry[]): UndoResult[] {
  const entries = given.map(entry => asItIsNow(kernel, entry));
  const ours = entries.flatMap(entry => {
    const setting = unitSettingOf(kernel, entry.key, fileOf(entry));
    if (setting === null) return [];
    const [held, set] = [heldBy(kernel, entry), valueNow(kernel, setting)];
    // What is ours in systemd it would write again, whatever the cgroup holds now; where it has nothing, a reload may have failed.
    const isOurs =
      set === null ? held === entry.wanted || held === entry.before : set === entry.wanted;
    return isOurs ? { entry, setting } : [];
  });
  if (ours.length > 0) {
    try {
      kernel.units.forget(ours.map(({ setting }) => [setting.unit, setting.property]));
    } catch (error) {
      const failed = { state: 'failed', message: describeError(error) } as const;
      const broken = new Set(ours.map(({ entry }) => entry));
      return entries.map(entry => (broken.has(entry) ? failed : undoFile(kernel, entry)));
    }
    for (const { entry } of ours) waitUntilHeld(kernel, entry, entry.before, unitMayFollowMs);
  }
  // What the unit's own files do not speak of, systemd leaves as it is: then the file is ours to give back.
  return entries.map(entry => undoFile(kernel, entry));
}

export function readBackFiles(
  kernel: Kernel,
  entries: readonly UndoEntry[],
): { held: string | null; ours: boolean }[] {
  return entries.map(entry => {
    const held = heldBy(kernel, entry);
    return { held, ours: held === entry.wanted };
  });
}

function undoFile(kernel: Kernel, entry: UndoEntry): UndoResult {
  const held = heldBy(kernel, entry);
  if (held === null) return { state: 'gone', message: `${entry.resource}: the cgroup is gone` };
  if (held === entry.before) return { state: 'restored', message: `${entry.resource}: ${held}` };
  if (held !== entry.wanted) {
    return {
      state: 'yielded',
      message: `${entry.resource}: is "${held}", we wrote "${entry.wanted}": left to whoever changed it`,
    };
  }
  try {
    writeCgroupFile(kernel, entry, entry.before);
  } catch (error) {
    if (heldBy(kernel, entry) === null)
      return { state: 'gone', message: `${entry.resource}: the cgroup is gone` };
    return { state: 'failed', message: describeError(error) };
  }
  const after = heldBy(kernel, entry);
  return after === entry.before || after === null
    ? { state: after === null ? 'gone' : 'restored', message: `${entry.resource}: ${after}` }
    : {
        state: 'failed',
        message: `${entry.resource}: wrote "${entry.before}", and the kernel holds "${after}"`,
      };
}
