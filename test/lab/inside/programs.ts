/**
 * Loads, attaches and runs every BPF program of the project (or of the objects that are named), each alone, on the kernel it
 * is started on; prints one JSON array of `Trial`. Runs as root, in the lab and on the outer machine.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BpfObject, loadNative, type Native } from '../../../src/linux/native.ts';

/** How far one program came on one kernel. `problem`: what the kernel said where it went no further. */
export type Trial = {
  readonly object: string;
  readonly program: string;
  readonly section: string;
  readonly reached: 'refused' | 'loads' | 'attaches' | 'counts';
  readonly problem?: string;
};

const build = fileURLToPath(new URL('../../../build/', import.meta.url));
const objects = `${build}bpf/`;
/** Iterators that go over one task, and the one that goes over a map. */
const runOnce = ['read_totals', 'settle_sleeps', 'dump_changed'];
const iteratedMaps: Readonly<Record<string, string>> = { charge_sockets: 'sockets' };
/** @see perf_event_open(2): PERF_COUNT_SW_PAGE_FAULTS_MIN, _MAJ */
const softwareEvents: Readonly<Record<string, number>> = { minor: 5, major: 6 };

/** Forks, wake-ups, switches, migrations. */
const scheduling = `for i in 1 2 3 4 5 6 7 8; do (sleep 0.05; : | cat) & done; wait
taskset -c 0 sleep 60 & sleep 0.2; taskset -cp 1 $! >/dev/null; kill $!; wait $! || true`;

/** What makes the programs of an object run; of the others, what the scheduler sees. */
const loads: Readonly<Record<string, string>> = {
  // And interrupts of a device: of a disk, or of what a file of the checkout comes by where that is on another machine.
  outliers: `${scheduling}
file=$(mktemp -p /var/tmp); trap 'rm -f "$file"' EXIT
dd if=/dev/zero of="$file" bs=4k count=8 conv=fsync status=none
dd if="$0" iflag=nocache count=0 status=none; cat "$0" >/dev/null`,
  // A connection that is refused.
  net: '(exec 3<>/dev/tcp/127.0.0.1/9) 2>/dev/null || true',
  // A datagram, and calls that receive (ip's, of netlink): the hooks see those of all sockets.
  udp: 'echo hello >/dev/udp/127.0.0.1/9; ip link show lo >/dev/null',
  // Of both kinds, on CPU 0. For a major one something must run that is in no page cache: a fresh copy where files are on a
  // disk, a file of the checkout where that is on another machine.
  faults: `copy=$(mktemp -p /var/tmp); trap 'rm -f "$copy"' EXIT
cp /bin/bash "$copy"; chmod +x "$copy"; sync -d "$copy"
for file in "$copy" "$0"; do dd if="$file" iflag=nocache count=0 status=none; done
taskset -c 0 "$copy" -c :; taskset -c 0 "$0" >/dev/null 2>&1 || true`,
  // Reads, writes and merges of a disk with an I/O scheduler.
  block: `modprobe -q loop || true; image=$(mktemp); truncate -s 4M "$image"
disk=$(losetup --find --show "$image"); trap 'losetup --detach "$disk"; rm -f "$image"' EXIT
echo mq-deadline >"/sys/block/\${disk##*/}/queue/scheduler"
dd if="$disk" of=/dev/null iflag=direct bs=4k count=8 status=none; "$0" merge --file "$disk" --count 8`,
};

/** A guest in the lab stands still for seconds where the lab's CPUs are busy. */
const mostLoads = 4;

/** What no load brings about for certain, and why. */
const unprovoked: Readonly<Record<string, string>> = {
  block_rq_requeue: 'only a device whose own queue is full gives a request back',
};

const only = process.argv.slice(2);
const native = loadNative();
const statsFile = '/proc/sys/kernel/bpf_stats_enabled';
const statsBefore = readFileSync(statsFile, 'utf8');
writeFileSync(statsFile, '1');
try {
  const trials = readdirSync(objects)
    .filter(name => name.endsWith('.bpf.o'))
    .filter(name => only.length === 0 || only.includes(basename(name, '.bpf.o')))
    .sort()
    .flatMap(file => listPrograms(`${objects}${file}`).map(found => tryOne(native, file, found)));
  console.log(JSON.stringify(trials));
} finally {
  writeFileSync(statsFile, statsBefore);
}

type Found = { program: string; section: string };

/** The programs of an object, by its symbols: nothing is loaded for it. */
function listPrograms(path: string): Found[] {
  const sections = new Map<string, string>();
  for (const line of read('-SW', path)) {
    const match = /^\s*\[\s*(\d+)\]\s+(\S+)\s+PROGBITS/.exec(line);
    if (match?.[1] && match[2]) sections.set(match[1], match[2]);
  }
  return read('-sW', path).flatMap(line => {
    const match = /FUNC\s+GLOBAL\s+\S+\s+(\d+)\s+(\S+)$/.exec(line);
    const section = sections.get(match?.[1] ?? '');
    return match?.[2] && section && section !== '.text' ? [{ program: match[2], section }] : [];
  });
}

function read(what: string, path: string): string[] {
  return execFileSync('readelf', [what, path], { encoding: 'utf8' }).split('\n');
}

function tryOne(native: Native, file: string, { program, section }: Found): Trial {
  const about = { object: basename(file, '.bpf.o'), program, section };
  let object: BpfObject | undefined;
  let reached: Trial['reached'] = 'refused';
  try {
    object = native.loadObject(`${objects}${file}`, { programs: [program] });
    reached = 'loads';
    attach(object, about);
    reached = 'attaches';
    const why = unprovoked[program];
    if (why) return { ...about, reached, problem: why };
    for (let times = 0; times < mostLoads; times += 1) {
      load(about.object);
      const { runs = 0 } = object.programStats()[program] ?? {};
      if (runs > 0) return { ...about, reached: 'counts' };
    }
    return { ...about, reached, problem: 'it never ran under the load' };
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    return { ...about, reached, problem: code ?? message };
  } finally {
    object?.close();
  }
}

function attach(object: BpfObject, { program, section }: Found): void {
  if (runOnce.includes(program)) object.runOnce(program);
  else if (section === 'raw_tp') object.runRaw(program);
  else if (section.startsWith('iter/')) object.iterate(program, iteratedMaps[program]);
  else if (section === 'perf_event') {
    const kind = Object.keys(softwareEvents).find(name => program.includes(name)) ?? program;
    const event = softwareEvents[kind];
    if (event === undefined) throw new Error(`no software event is known for ${program}`);
    object.attachSoftwareEvent(program, event, Int32Array.from([0]));
  } else object.attach(program);
}

function load(object: string): void {
  const script = `set -e\n${loads[object] ?? scheduling}`;
  const { status, stderr } = spawnSync('bash', ['-c', script, `${build}sculpt-workload`], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`the load failed: ${stderr}`);
}
