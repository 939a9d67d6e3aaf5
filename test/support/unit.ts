import { readFileSync } from 'node:fs';

/** The settings of a unit that ships, each with all its values in their order; none: []. */
export function readUnit(name: string): (setting: string) => string[] {
  const file = new URL(`../../deploy/systemd/${name}`, import.meta.url);
  const lines = readFileSync(file, 'utf8').split('\n');
  return setting =>
    lines.flatMap(line =>
      line.startsWith(`${setting}=`) ? [line.slice(setting.length + 1).trim()] : [],
    );
}
