import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeVcpus, type VcpuTotals } from '../src/agent/probes/kvm.ts';
import { SculptorError } from '../src/contract/errors.ts';
import { readCgroupLayout } from '../src/linux/cgroups.ts';
import { loadNative } from '../src/linux/native.ts';
import { hostRoots } from '../src/linux/roots.ts';
import { type BenchResult, median, rawFolder, type Tell, writeRaw } from './bench.ts';
import { countRuns } from './count-runs.ts';

const rounds = 7;
const seconds = 1;
const root = join(import.meta.dirname, '..');

/**
 * Of each program of bpf/kvm.bpf.c: a hook of KVM that runs in the vCPU's thread also where KVM emulates all of a guest and never enters
 * it, in the order in which the program's own hooks run: an exit, the end of a halt, an entry. The last is its own: after the
 * stand-in of an entry, it finds nothing to change.
 */
const standIns = {
  kvm_exit: 'kvm_emulate_insn',
  kvm_vcpu_wakeup: 'kvm_pio',
  kvm_entry: 'kvm_userspace_exit',
  kvm_userspace_exit: 'kvm_userspace_exit',
} as const;
const programs = Object.keys(standIns) as (keyof typeof standIns)[];

type Cost = Record<string, { readonly runs: number; readonly runNs: number }>;
type Round = { readonly empty: Cost; readonly kvm: Cost };

/**
 * What the programs on KVM's hooks take by the kernel's own account (bpf_stats), net of an empty program, where no guest can be
 * entered: the shipped programs on other hooks, in the thread of a vCPU whose instructions KVM emulates.
 */
export async function benchKvmHooks(tell: Tell): Promise<BenchResult> {
  if (!existsSync('/dev/kvm'))
    throw new SculptorError('DEMO_FAILED', '/dev/kvm is not there: modprobe kvm_amd or kvm_intel');
  const folder = rawFolder('kvm-hooks');
  const objects = {
    empty: compile(folder, 'empty', emptySource()),
    kvm: compile(folder, 'kvm', sourceOnStandIns()),
  };
  const counting = await countRuns();
  const machine = spawn(join(root, 'build/sculpt-workload'), ['vcpu'], { stdio: 'inherit' });
  const ended = new Promise(resolve => machine.once('exit', resolve));
  try {
    await sleep(500);
    const measured: Round[] = [];
    while (measured.length < rounds) {
      const round = {
        empty: await costOf(objects.empty),
        kvm: await costOf(objects.kvm, {
          cgroup_v1: readCgroupLayout(hostRoots).version === 1,
        }),
      };
      measured.push(round);
      tell(`round ${measured.length} of ${rounds}: ${JSON.stringify(netOf(round))}`);
    }
    writeRaw(folder, 'rounds.jsonl', measured);
    const net = (program: string) => median(measured.map(round => netOf(round)[program] ?? NaN));
    const figures = {
      programs: Object.fromEntries(programs.map(name => [name, Math.round(net(name))])),
      exit_and_entry: Math.round(net('kvm_exit') + net('kvm_entry')),
      empty_programs_gross: Object.fromEntries(
        programs.map(name => [
          name,
          Math.round(median(measured.map(({ empty }) => gross(empty, name)))),
        ]),
      ),
      rounds: measured.length,
    };
    const targets = { programs: 'each < 600 ns net of an empty one' };
    const overrides = { hooks: `stand-ins: ${JSON.stringify(standIns)}` };
    return { figures, targets, overrides, raw: folder };
  } finally {
    machine.kill('SIGKILL');
    await ended;
    await counting.stop();
  }
}

function emptySource(): string {
  const empty = programs.map(
    name => `SEC("tp_btf/${standIns[name]}")\nint BPF_PROG(${name})\n{\n\treturn 0;\n}\n`,
  );
  return `#include "include/kernel.bpf.h"\nchar LICENSE[] SEC("license") = "Dual BSD/GPL";\n${empty.join('')}`;
}

/** The exit's code is two reads away from its vCPU; where the types of none of the CPUs are there, two others are read. */
function sourceOnStandIns(): string {
  const otherReads = `struct kvm___read { struct mm_struct *mm; } __attribute__((preserve_access_index));
struct kvm_vcpu___read { struct kvm___read *kvm; } __attribute__((preserve_access_index));
#define read_twice(vcpu) ((__u32)(unsigned long)BPF_CORE_READ((struct kvm_vcpu___read *)vcpu, kvm, mm))
`;
  const moved = programs.reduce(
    (source, name) => replaced(source, `SEC("tp_btf/${name}")`, `SEC("tp_btf/${standIns[name]}")`),
    readFileSync(join(root, 'bpf/kvm.bpf.c'), 'utf8'),
  );
  const read = replaced(moved, 'exit_code(vcpu, isa)', 'read_twice(vcpu)');
  return replaced(read, '#include "kvm.h"\n', `#include "kvm.h"\n${otherReads}`);
}

function replaced(source: string, what: string, by: string): string {
  if (!source.includes(what)) throw new Error(`bpf/kvm.bpf.c has no ${what} any more`);
  return source.replace(what, by);
}

/** As scripts/build-native.sh does; the path of the object. */
function compile(folder: string, name: string, source: string): string {
  const [from, to] = [join(folder, `${name}.bpf.c`), join(folder, `${name}.bpf.o`)];
  writeFileSync(from, source);
  const flags = ['-O2', '-g', '-Wall', '-Werror', '-target', 'bpf', '-mcpu=v3'];
  // The hooks are those of KVM on x86.
  const includes = ['-I/usr/include/x86_64-linux-gnu', `-I${join(root, 'bpf')}`];
  execFileSync('clang', [...flags, ...includes, '-c', from, '-o', to], { stdio: 'inherit' });
  return to;
}

/** `constants`: of the probe; the empty programs have none. */
async function costOf(path: string, constants?: Record<string, boolean>): Promise<Cost> {
  const object = loadNative().loadObject(path, constants ? { constants } : {});
  try {
    for (const program of programs) object.attach(program);
    await sleep(seconds * 1000);
    const stats = object.programStats();
    for (const name of programs)
      if (!stats[name]?.runs)
        throw new SculptorError(
          'DEMO_FAILED',
          `${standIns[name]} never came: this KVM enters its guests, or has no such hook`,
        );
    if (constants) checkWayTaken(decodeVcpus(object.iterate('dump')), stats);
    return stats;
  } finally {
    object.close();
  }
}

/** Out of turn they return at once, and what that takes says nothing. */
function checkWayTaken(vcpus: readonly VcpuTotals[], { kvm_vcpu_wakeup, kvm_entry }: Cost): void {
  const sum = (of: (vcpu: VcpuTotals) => number) => vcpus.reduce((all, each) => all + of(each), 0);
  const [halts, entries] = [sum(vcpu => vcpu.halts), sum(vcpu => vcpu.wakeups)];
  if (halts < 0.99 * (kvm_vcpu_wakeup?.runs ?? 0) || entries < 0.99 * (kvm_entry?.runs ?? 0))
    throw new SculptorError(
      'DEMO_FAILED',
      `the stand-ins do not come in the order of KVM's hooks: ${halts} halts, ${entries} entries after one`,
    );
}

function gross(cost: Cost, program: string): number {
  const { runs = 0, runNs = 0 } = cost[program] ?? {};
  return runNs / Math.max(1, runs);
}

function netOf({ empty, kvm }: Round): Record<string, number> {
  return Object.fromEntries(programs.map(name => [name, gross(kvm, name) - gross(empty, name)]));
}
