import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import test from 'ava';
import { counterWords, layout } from '../../src/agent/probes/sched-layout.ts';
import { KernelInterfaceError, ProbeError } from '../../src/contract/errors.ts';
import { loadNative, loadProbe } from '../../src/linux/native.ts';
import { keyOf } from '../support/map-sums.ts';
import { needs } from '../support/needs.ts';
import { endChild, eventually } from '../support/scene.ts';

const root = new URL('../../', import.meta.url).pathname;
const sched = `${root}build/bpf/sched.bpf.o`;
const addonTest = needs('addon');
const kernelTest = needs('root', 'btf', 'addon');
const children: ChildProcess[] = [];
let folder = '';

test.before(() => {
  folder = mkdtempSync(`${tmpdir()}/sculptor-native-`);
});
test.after.always(() => rmSync(folder, { recursive: true, force: true }));
test.afterEach.always(async () => {
  await Promise.all(children.splice(0).map(endChild));
});

const fdOf = (socket: Socket) => (socket as unknown as { _handle: { fd: number } })._handle.fd;

const compile = (source: string, object: string) =>
  execFileSync('clang', ['-O2', '-g', '-target', 'bpf', '-c', source, '-o', object]);

addonTest('the peer of a unix socket is this very process', async t => {
  const native = loadNative();
  const server = createServer().listen(`${folder}/peer.sock`);
  const [socket] = await Promise.all([
    new Promise<Socket>(resolve => server.once('connection', resolve)),
    new Promise<void>(resolve => server.once('listening', resolve)).then(() => {
      createConnection(`${folder}/peer.sock`).unref();
    }),
  ]);
  const [uid, gid] = [process.getuid?.(), process.getgid?.()];
  t.deepEqual(native.peerCredentials(fdOf(socket)), { pid: process.pid, uid, gid });
  socket.destroy();
  server.close();
});

addonTest('pages of files are let go, and what they hold is there when it is used again', t => {
  const native = loadNative();
  const fileBytes = () =>
    1024 * Number(/^RssFile:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
  const before = fileBytes();
  const dropped = native.dropFilePages();
  const after = fileBytes();
  t.true(dropped > 10e6, `${dropped} bytes`);
  t.true(after < before - dropped / 2, `${before} → ${after} bytes`);
  // Code that has not run before, and constants of a library: of ICU, of OpenSSL.
  t.is(new Intl.DateTimeFormat('de', { month: 'long' }).format(new Date(0)), 'Januar');
  t.is(createHash('sha3-512').update('').digest('hex').slice(0, 8), 'a69f73cc');
  t.is(native.libbpfVersion().split('.').length, 2);
});

addonTest('an error has the code and the number of the kernel, and says what failed', t => {
  const native = loadNative();
  const error = t.throws(() => native.peerCredentials(-1));
  t.like(error, { code: 'EBADF', errno: 9 });
  t.regex(error.message, /SO_PEERCRED of fd -1: EBADF/);
  t.like(
    t.throws(() => native.getAffinity(0x7fffffff)),
    { code: 'ESRCH', errno: 3 },
  );
});

addonTest('a mask that is set is the one that is read', t => {
  const native = loadNative();
  const child = spawn('sleep', ['60']);
  children.push(child);
  const tid = child.pid ?? 0;
  const before = native.getAffinity(tid);
  const first = before[0] ?? 0;
  t.deepEqual(native.setAffinity(Int32Array.of(tid), Int32Array.of(first)), Int32Array.of(0));
  t.deepEqual(native.getAffinity(tid), [first]);
  native.setAffinity(Int32Array.of(tid), Int32Array.from(before));
  t.deepEqual(native.getAffinity(tid), before);
});

addonTest('of many threads each has its own answer, and the one that has ended stops nobody', t => {
  const native = loadNative();
  const child = spawn('sleep', ['60']);
  children.push(child);
  const tid = child.pid ?? 0;
  const cpus = Int32Array.from(native.getAffinity(tid));
  t.deepEqual(
    native.setAffinity(Int32Array.of(0x7fffffff, tid), cpus),
    Int32Array.of(3 /* ESRCH */, 0),
  );
});

addonTest('a CPU that no Linux has is refused before anything is set', t => {
  const native = loadNative();
  for (const cpu of [-1, 8192]) {
    const message = `cpu ${cpu}: wanted 0..8191`;
    t.throws(() => native.setAffinity(Int32Array.of(process.pid), Int32Array.of(cpu)), { message });
  }
});

kernelTest('1000 threads are moved within 10 ms', async t => {
  const native = loadNative();
  const child = spawn(`${root}build/sculpt-workload`, ['threads', '--count', '1000']);
  children.push(child);
  const tids = await eventually('1000 threads', 10, () => {
    const names = readdirSync(`/proc/${child.pid}/task`);
    return names.length === 1000 ? Int32Array.from(names, Number) : null;
  });
  const all = Int32Array.from(native.getAffinity(child.pid ?? 0));
  const milliseconds = [all.subarray(0, 1), all, all.subarray(0, 1), all].map(cpus => {
    const began = performance.now();
    const errors = native.setAffinity(tids, cpus);
    const took = performance.now() - began;
    t.true(errors.every(error => error === 0));
    return took;
  });
  // The fastest of four: what the calls cost, not what else the machine did meanwhile.
  t.true(Math.min(...milliseconds) < 10, `${milliseconds.map(ms => ms.toFixed(1))} ms`);
});

kernelTest('a file that is no BPF object is refused with what libbpf said', t => {
  const native = loadNative();
  writeFileSync(`${folder}/no.bpf.o`, 'not an object');
  const error = t.throws(() => native.loadObject(`${folder}/no.bpf.o`, {}));
  t.regex(error.message, /no\.bpf\.o/);
  t.regex((error as Error & { log: string }).log, /libbpf/);
  t.throws(() => native.loadObject(`${folder}/absent.bpf.o`, {}), { code: 'ENOENT' });
  const cut = readFileSync(sched).subarray(0, 5000);
  writeFileSync(`${folder}/cut.bpf.o`, cut);
  t.throws(() => native.loadObject(`${folder}/cut.bpf.o`, {}), { message: /cut\.bpf\.o/ });
});

kernelTest('a name that the object does not have is an error that names it', t => {
  const native = loadNative();
  const absent = { code: 'ENOENT', message: /absent/ };
  t.throws(() => native.loadObject(sched, { constants: { absent: 1 } }), absent);
  t.throws(() => native.loadObject(sched, { maxEntries: { absent: 1 } }), absent);
  t.throws(() => native.loadObject(sched, { plainHashes: ['absent'] }), absent);
  t.throws(() => native.loadObject(sched, { programs: ['absent'] }), absent);
  const object = native.loadObject(sched, {});
  t.throws(() => object.attach('absent'), absent);
  t.throws(() => object.iterate('absent'), absent);
  t.throws(() => object.runOnce('absent'), absent);
  t.throws(() => object.readMap('absent'), absent);
  t.throws(() => object.readSums('absent'), absent);
  t.throws(() => object.takeSums('absent'), absent);
  t.throws(() => object.readWord('absent', 0), absent);
  t.throws(() => object.readWord('instances', layout.totals.bytes / 8), { code: 'EINVAL' });
  t.throws(() => object.mapMemory('absent'), absent);
  t.throws(() => object.mapMemory('instances'), { message: /memory of map instances/ });
  t.throws(() => object.lookup('stats', Buffer.alloc(3)), { code: 'EINVAL' });
  t.throws(() => object.lookupSums('stats', Buffer.alloc(3)), { code: 'EINVAL' });
  t.throws(() => object.deleteKeys('instances', Buffer.alloc(12)), { code: 'EINVAL' });
  object.close();
});

kernelTest(
  'what a program wrote to a mapped array is seen, and stays readable when the object is closed',
  t => {
    const maxEntries = { sums: 16, instances: 16 };
    const object = loadNative().loadObject(sched, { maxEntries });
    const sums = object.mapMemory('sums');
    t.is(sums.length, 16 * 32);
    t.is(object.runOnce('read_totals').readUInt32LE(), 0);
    object.attach('sched_switch');
    spawnSync('true');
    object.iterate('flush');
    const count = object.runOnce('read_totals').readUInt32LE();
    t.true(count > 0);
    const id = sums.readBigUInt64LE();
    t.true(id > 0n);
    object.close();
    t.is(sums.readBigUInt64LE(), id);
  },
);

kernelTest(
  "the sums of a map are those of all CPUs' values, and one is looked up as all are read",
  t => {
    const object = loadNative().loadObject(sched, {
      maxEntries: { instances: 16 },
      programs: ['sched_switch', 'sched_wakeup', 'flush'],
    });
    object.attach('sched_wakeup');
    object.attach('sched_switch');
    // On more than one CPU.
    for (let i = 0; i < 50; i += 1) spawnSync('true');
    object.iterate('flush');
    const before = object.readSums('instances');
    const whole = object.readMap('instances');
    const after = object.readSums('instances');
    t.true(whole.count > 0);
    t.is(after.width * 8, whole.valueSize);
    // Switches go on meanwhile: what each counts is between the two readings of it.
    const wordsBy = (from: typeof before) =>
      new Map(
        Array.from({ length: from.count }, (_, i) => [
          from.keys.readBigUInt64LE(i * 8),
          from.sums.subarray(i * from.width, (i + 1) * from.width),
        ]),
      );
    const [least, most] = [wordsBy(before), wordsBy(after)];
    let several = 0;
    for (let entry = 0; entry < whole.count; entry += 1) {
      const key = whole.keys.subarray(entry * 8, entry * 8 + 8);
      const id = key.readBigUInt64LE();
      const one = object.lookupSums('instances', key);
      for (let word = 0; word < counterWords; word += 1) {
        const parts = Array.from({ length: whole.cpus }, (_, cpu) =>
          Number(
            whole.values.readBigUInt64LE((entry * whole.cpus + cpu) * whole.valueSize + word * 8),
          ),
        );
        const sum = parts.reduce((all, part) => all + part, 0);
        const [low, high, now] = [
          least.get(id)?.[word] ?? 0,
          most.get(id)?.[word],
          one?.[word] ?? -1,
        ];
        if (low > sum || sum > (high ?? -1) || now < sum)
          t.fail(`${id}, word ${word}: ${low}, ${parts}, ${high}, ${now}`);
        if (parts.filter(part => part > 0).length > 1) several += 1;
      }
    }
    t.true(several > 0 || availableParallelism() === 1);
    t.is(object.lookupSums('instances', Buffer.alloc(8)), null);
    const first = Buffer.alloc(4);
    const events = object.lookupSums('stats', first)?.[0] ?? 0;
    const stats = object.lookup('stats', first) ?? Buffer.alloc(0);
    let counted = 0;
    for (let at = 0; at < stats.length; at += layout.stats.bytes)
      counted += Number(stats.readBigUInt64LE(at));
    t.true(0 < events && events <= counted && counted < 2 * events, `${events}, ${counted}`);
    // A map of plain values; what is taken is there no more.
    const key = keyOf(7);
    const ran = (from: ReturnType<typeof wordsBy>) =>
      [...from.values()].reduce((sum, words) => sum + (words[0] ?? 0), 0);
    t.is(object.lookupSums('shared_instances', key), null);
    t.is(object.readSums('shared_instances').count, 0);
    const taken = wordsBy(object.takeSums('instances'));
    t.true(taken.size >= whole.count);
    t.true(ran(wordsBy(object.readSums('instances'))) < ran(taken) / 2);
    object.close();
  },
);

kernelTest('a word of a map by CPU is the one that each value has there', t => {
  const object = loadNative().loadObject(sched, {
    maxEntries: { instances: 16 },
    programs: ['sched_switch', 'sched_wakeup', 'flush'],
  });
  object.attach('sched_wakeup');
  object.attach('sched_switch');
  for (let i = 0; i < 50; i += 1) spawnSync('true');
  object.iterate('flush');
  let several = 0;
  const { runNs, wakeups, latencyCount } = layout.totals;
  for (const word of [runNs, wakeups, latencyCount].map(at => at / 8)) {
    const whole = () => {
      const { count, cpus, keys, values, valueSize } = object.readMap('instances');
      t.is(cpus * count * valueSize, values.length);
      const word64 = (at: number) => Number(values.readBigUInt64LE(at * valueSize + word * 8));
      return new Map(
        Array.from({ length: count }, (_, entry) => [
          keys.readBigUInt64LE(entry * 8),
          Array.from({ length: cpus }, (__, cpu) => word64(entry * cpus + cpu)),
        ]),
      );
    };
    // Switches go on meanwhile: what each CPU counts is between the two readings of it.
    const before = whole();
    const { count, cpus, keys, words, maxEntries } = object.readWord('instances', word);
    const after = whole();
    t.true(count >= before.size);
    t.is(words.length, count * cpus);
    t.is(maxEntries, 16);
    words.forEach((got, i) => {
      const id = keys.readBigUInt64LE(Math.floor(i / cpus) * 8);
      const [low, high] = [before, after].map(map => map.get(id)?.[i % cpus] ?? 0);
      if (got < (low ?? 0) || got > (high ?? 0))
        t.fail(`${id}, word ${word} of CPU ${i % cpus}: ${low}, ${got}, ${high}`);
      if (got > 0 && i % cpus > 0) several += 1;
    });
  }
  t.true(several > 0 || availableParallelism() === 1);
  object.close();
});

kernelTest('an object that was closed says so and does not crash', t => {
  const object = loadNative().loadObject(sched, { programs: ['sched_switch', 'flush'] });
  object.attach('sched_switch');
  object.iterate('flush');
  object.close();
  object.close();
  for (const call of [
    () => object.attach('sched_switch'),
    () => object.iterate('flush'),
    () => object.readMap('instances'),
    () => object.readSums('instances'),
    () => object.takeSums('instances'),
    () => object.readWord('instances', 0),
    () => object.lookupSums('stats', Buffer.alloc(4)),
    () => object.runOnce('read_totals'),
    () => object.mapMemory('sums'),
    () => object.memoryBytes(),
    () => object.programStats(),
  ]) {
    t.throws(call, { code: 'EBADF', message: /closed/ });
  }
});

/** Reads maps by CPU where nothing tells how many CPUs there may be. */
const blind = `
  import { loadNative } from '${root}src/linux/native.ts';
  const object = loadNative().loadObject('${sched}', { programs: ['flush'] });
  for (const read of [
    () => object.readMap('instances'),
    () => object.readSums('instances'),
    () => object.readWord('instances', 0),
    () => object.lookup('stats', Buffer.alloc(4)),
    () => object.lookupSums('stats', Buffer.alloc(4)),
  ]) {
    try {
      read();
    } catch (error) {
      console.log(error.message);
    }
  }
`;

kernelTest('where the CPUs that there may be are not told, who reads them by CPU is told so', t => {
  const hide = 'mount -t tmpfs none /sys/devices/system/cpu && exec "$@"';
  const node = [process.execPath, '--input-type=module', '-e', blind];
  const { stdout, stderr } = spawnSync('unshare', ['-m', 'sh', '-c', hide, 'sh', ...node], {
    encoding: 'utf8',
  });
  const lines = stdout.trim().split('\n');
  t.is(lines.length, 5, stderr);
  for (const line of lines)
    t.regex(line, /^\/sys\/devices\/system\/cpu\/possible: ENOENT: No such file/);
});

addonTest('a probe that is not built is a ProbeError that says how to build it', t => {
  const error = t.throws(() => loadProbe(loadNative(), 'absent'), { instanceOf: ProbeError });
  t.is(error.code, 'PROBE_MISSING');
  t.regex(error.message, /npm run setup/);
});

kernelTest('a program that the kernel does not take is a ProbeError', t => {
  const native = loadNative();
  const refusing = {
    ...native,
    loadObject: () => {
      throw Object.assign(new Error('load: EINVAL'), { code: 'EINVAL', log: 'R1 invalid mem' });
    },
  };
  const error = t.throws(() => loadProbe(refusing, 'sched'), { instanceOf: ProbeError });
  t.is(error.code, 'PROBE_LOAD');
  t.regex(error.message, /R1 invalid mem/);
});

for (const said of [
  'unknown func bpf_probe_read#4',
  'program of this type cannot use helper bpf_probe_read_kernel#113',
])
  kernelTest(
    `that lockdown takes a helper away is told in words, where the verifier says: ${said}`,
    t => {
      const loadObject = () => {
        throw Object.assign(new Error('load: EINVAL'), { code: 'EINVAL', log: said });
      };
      const error = t.throws(() => loadProbe({ ...loadNative(), loadObject }, 'sched'), {
        instanceOf: ProbeError,
        message: /^sched\.bpf\.o: .*lockdown=confidentiality/,
      });
      t.is(error.context['remedy'], 'boot with lockdown=integrity or without lockdown');
    },
  );

/** Loads the probe in a process that has no capability. */
const unprivileged = `
  import { loadNative, loadProbe } from '${root}src/linux/native.ts';
  try {
    loadProbe(loadNative(), 'sched');
  } catch (error) {
    console.log(JSON.stringify({ name: error.name, code: error.code, message: error.message }));
  }
`;

kernelTest('without capabilities the error says which are wanted and what works without', t => {
  const node = [process.execPath, '--input-type=module', '-e', unprivileged];
  const { stdout, stderr } = spawnSync('setpriv', ['--bounding-set=-all', ...node], {
    encoding: 'utf8',
  });
  const error = JSON.parse(stdout) as KernelInterfaceError;
  t.is(error.name, KernelInterfaceError.name);
  t.is(error.code, 'KERNEL_PRIVILEGE');
  t.regex(error.message, /this process has no CAP_BPF and no CAP_PERFMON; root, or CAP_BPF/);
  t.notRegex(error.message, /ulimit/);
  // libbpf prints nothing by itself.
  t.is(stderr, '');
});

/** A program that stores nobody knows where, after a great many steps that there is nothing to say against. */
const refused = `
  struct { int (*type)[1]; int (*key_size)[4]; int (*value_size)[64]; int (*max_entries)[1]; } words
    __attribute__((section(".maps"), used));
  char LICENSE[] __attribute__((section("license"), used)) = "GPL";
  static void *(*look_up)(void *map, const void *key) = (void *)1;
  static unsigned long long (*now)(void) = (void *)5;
  __attribute__((section("socket"), used)) int refused(void *context)
  {
    int key = 0;
    unsigned long long *word = look_up(&words, &key);
    if (!word) return 0;
    STEPS
    word[now()] = 1;
    return 0;
  }`;

kernelTest('however long the verifier speaks, its last words are told: why it refuses', t => {
  for (const steps of [200, 3000]) {
    const name = `${folder}/refused-${steps}`;
    writeFileSync(`${name}.bpf.c`, refused.replace('STEPS', 'word[1] += now();'.repeat(steps)));
    compile(`${name}.bpf.c`, `${name}.bpf.o`);
    const error = t.throws(() => loadNative().loadObject(`${name}.bpf.o`, {}));
    const { log } = error as Error & { log: string };
    t.true(log.length > 4096 && log.length <= 65_536, `${log.length} bytes`);
    t.regex(log.slice(-2000), /register with unbounded min value is not allowed/);
  }
});

/** A program that asks whether the kernel has a function, and goes on without. */
const asking = `
  extern int of_no_kernel(int) __attribute__((weak, section(".ksyms")));
  char LICENSE[] __attribute__((section("license"), used)) = "GPL";
  __attribute__((section("iter/task"), used)) int ask(void *context)
  {
    return of_no_kernel ? of_no_kernel(0) & 1 : 0;
  }`;

kernelTest('what the kernel lacks is no refusal, though types of modules may not be listed', t => {
  writeFileSync(`${folder}/asking.bpf.c`, asking);
  const object = `${folder}/asking.bpf.o`;
  compile(`${folder}/asking.bpf.c`, object);
  const load = `
    import { loadNative } from '${root}src/linux/native.ts';
    const object = loadNative().loadObject('${object}', {});
    console.log(object.iterate('ask').length);
  `;
  const few = '-all,+bpf,+perfmon';
  const setpriv = [`--inh-caps=${few}`, `--ambient-caps=${few}`, `--bounding-set=${few}`];
  const node = [process.execPath, '--input-type=module', '-e', load];
  const { stdout, stderr } = spawnSync('setpriv', [...setpriv, ...node], { encoding: 'utf8' });
  t.is(stdout.trim(), '0', stderr);
});
