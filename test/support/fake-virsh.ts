import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

/** What virsh 9.0 says to `domstats --raw --nowait --block` of a domain with a disk that was read, one that was not, and an empty tray. */
export const threeDrives = `Domain: 'web'
  block.count=3
  block.0.name=vda
  block.0.path=/tmp/lv/img/a
  block.0.backingIndex=3
  block.0.rd.reqs=1
  block.0.rd.bytes=512
  block.0.rd.times=61913464
  block.0.wr.reqs=0
  block.0.wr.bytes=0
  block.0.wr.times=0
  block.0.fl.reqs=0
  block.0.fl.times=0
  block.0.allocation=0
  block.0.capacity=8388608
  block.0.physical=4096
  block.1.name=hda
  block.1.path=/tmp/lv/img/b
  block.1.backingIndex=2
  block.1.rd.reqs=0
  block.1.rd.bytes=0
  block.1.rd.times=0
  block.1.wr.reqs=0
  block.1.wr.bytes=0
  block.1.wr.times=0
  block.1.fl.reqs=0
  block.1.fl.times=0
  block.1.allocation=0
  block.1.capacity=8388608
  block.1.physical=4096
  block.2.name=hdc
  block.2.rd.reqs=0
  block.2.rd.bytes=0
  block.2.rd.times=0
  block.2.wr.reqs=0
  block.2.wr.bytes=0
  block.2.wr.times=0
  block.2.fl.reqs=0
  block.2.fl.times=0

`;

/** What it says of one drive. */
export function oneDrive(
  name: string,
  [reads = 0, writes = 0, flushes = 0]: readonly number[],
  path = '/tmp/lv/img/c',
): string {
  return `Domain: '${name}'
  block.count=1
  block.0.name=vda
  block.0.path=${path}
  block.0.backingIndex=1
  block.0.rd.reqs=${reads}
  block.0.rd.bytes=${reads * 512}
  block.0.rd.times=${reads * 1000}
  block.0.wr.reqs=${writes}
  block.0.wr.bytes=${writes * 4096}
  block.0.wr.times=${writes * 2000}
  block.0.fl.reqs=${flushes}
  block.0.fl.times=${flushes * 3000}
  block.0.allocation=0
  block.0.capacity=8388608
  block.0.physical=4096

`;
}

/** What it says while somebody else works on the domain, or the QEMU hung in the run before. */
export const busy = `Domain: 'v10'
  block.count=1
  block.0.name=vda
  block.0.path=/tmp/lv/img/n10
  block.0.backingIndex=1

`;

/** A virsh that answers as the real one does. */
export type FakeVirsh = {
  readonly path: string;
  /** What `domstats` says of these domains, by UUID, from now on; `hang`: it never comes to an end; `late:…`: after two seconds. */
  readonly answer: (answers: Readonly<Record<string, string>>) => void;
  /** The arguments of each run. */
  readonly runs: () => string[];
};

export function makeFakeVirsh(t: ExecutionContext): FakeVirsh {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-virsh-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(`${folder}/answers`);
  writeFileSync(`${folder}/runs`, '');
  const path = `${folder}/virsh`;
  // It forks nothing: a child would keep its standard output open when it is killed.
  writeFileSync(
    path,
    `#!/bin/bash
printf '%s\\n' "LC_ALL=$LC_ALL $*" >>'${folder}/runs'
set -f; IFS=';'
for command in $4; do
  last=\${command##* }
  case $command in
  *echo*) printf '%s\\n' "$last" ;;
  *domstats*)
    file='${folder}/answers/'$last
    if [ ! -e "$file" ]; then printf '\\n'; printf '%s\\n' "error: failed to get domain '$last'" >&2; continue; fi
    text=$(<"$file")
    if [ "$text" = hang ]; then exec sleep 60; fi
    if [ "\${text%%:*}" = late ]; then sleep 2; text=\${text#late:}; fi
    printf '%s\\n\\n' "$text" ;;
  *) printf '\\n'; printf '%s\\n' "error: failed to get domain '$last'" >&2 ;;
  esac
done
`,
  );
  chmodSync(path, 0o755);
  return {
    path,
    answer: answers => {
      for (const [uuid, text] of Object.entries(answers))
        writeFileSync(`${folder}/answers/${uuid}`, text.trimEnd());
    },
    runs: () => readFileSync(`${folder}/runs`, 'utf8').split('\n').slice(0, -1),
  };
}
