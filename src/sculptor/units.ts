import { execFileSync } from 'node:child_process';
import { readdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { ActuationError, describeError } from '../contract/errors.ts';
import { readText } from '../linux/read-file.ts';

/** What of a unit is set, for the running system only. @see systemd.resource-control(5) */
export type UnitProperty = 'CPUWeight' | 'AllowedCPUs';

/** systemd, asked to change what it owns: a cgroup file written behind its back would not last. */
export type Units = {
  /** Whether somebody has set the property at run time already: `systemctl set-property`, with or without `--runtime`. */
  readonly isSet: (unit: string, property: UnitProperty) => boolean;
  /** What the property is set to for the running system, by whoever set it last; null when by nobody. */
  readonly valueNow: (unit: string, property: UnitProperty) => string | null;
  /** Sets it until the next boot. The cgroup follows within moments. @throws ActuationError ACTUATION_WRITE */
  readonly set: (unit: string, property: UnitProperty, value: string) => void;
  /**
   * Forgets what `set` left behind, so that what the unit's own files say holds again; what they do not speak of stays as
   * it is in the cgroup. @throws ActuationError ACTUATION_WRITE
   */
  readonly forget: (
    properties: readonly (readonly [unit: string, property: UnitProperty])[],
  ) => void;
};

/** Where systemd keeps what was set: for units from files, of this boot and lasting, and for transient units. */
const controlFolders = ['/run/systemd/system.control', '/run/systemd/transient'];
const lastingFolder = '/etc/systemd/system.control';

/** `run` has systemctl do something, and throws where it does not. */
export function openUnits(run: (args: readonly string[]) => void = runSystemctl): Units {
  const systemctl = (resource: string, ...args: string[]): void => {
    try {
      run(args);
    } catch (cause) {
      const { stderr } = cause as { stderr?: Buffer };
      throw new ActuationError(
        'ACTUATION_WRITE',
        `systemctl ${args.join(' ')}: ${stderr?.toString().trim() || describeError(cause)}`,
        { resource },
        cause,
      );
    }
  };
  return {
    isSet: (unit, property) =>
      [...controlFolders, lastingFolder].some(folder =>
        listFolder(`${folder}/${unit}.d`).includes(fileNameOf(property)),
      ),
    valueNow: (unit, property) => {
      const folder = folderOf(unit, property);
      const text = folder === undefined ? null : readText(`${folder}/${fileNameOf(property)}`);
      return text === null ? null : settingIn(text, property);
    },
    set: (unit, property, value) =>
      systemctl(unit, 'set-property', '--runtime', unit, `${property}=${value}`),
    forget: properties => {
      for (const [unit, property] of properties) removeDropIn(unit, property);
      // Also where nothing is left to remove: the reload may have failed before, and then systemd knows what was set still.
      systemctl(properties[0]?.[0] ?? '', 'daemon-reload');
    },
  };
}

function runSystemctl(args: readonly string[]): void {
  execFileSync('systemctl', ['--no-ask-password', ...args], { timeout: 30_000, stdio: 'pipe' });
}

function fileNameOf(property: UnitProperty): string {
  return `50-${property}.conf`;
}

/** Where what was set for the running system is. */
function folderOf(unit: string, property: UnitProperty): string | undefined {
  const folders = controlFolders.map(folder => `${folder}/${unit}.d`);
  return folders.find(each => listFolder(each).includes(fileNameOf(property)));
}

/** The value that a drop-in of systemd's gives a property: the last one holds. Lists of CPUs it writes with spaces. */
export function settingIn(text: string, property: UnitProperty): string | null {
  const line = text.split('\n').findLast(each => each.startsWith(`${property}=`));
  const value = line?.slice(property.length + 1).trim();
  return value === undefined || value === '' ? null : value.replaceAll(/[\s,]+/g, ',');
}

function removeDropIn(unit: string, property: UnitProperty): void {
  const folder = folderOf(unit, property);
  if (folder === undefined) return;
  unlinkSync(`${folder}/${fileNameOf(property)}`);
  if (listFolder(folder).length === 0) rmdirSync(folder);
}

function listFolder(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/**
 * The unit whose cgroup this is, of the system's own manager: below a unit that is no slice somebody else is in charge (a
 * user's manager, a container). Null when it is none.
 */
export function unitAt(path: string): string | null {
  const match = /^(?:\/[^/]+\.slice)*\/([^/]+\.(?:service|scope|slice))$/.exec(path);
  // systemd puts an underscore before names that a controller's file could have.
  return match?.[1]?.replace(/^_/, '') ?? null;
}
