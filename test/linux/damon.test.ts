import { existsSync, readdirSync, readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { lookAtDamon, takeDamon } from '../../src/linux/damon.ts';
import { markFile } from '../../src/linux/damon-owner.ts';
import { damonFiles, fakeDamon } from '../support/fake-damon.ts';
import { makeTree, taskFiles } from './tree.ts';

const mib = 1 << 20;
const options = { kdamonds: 2, windowSeconds: 10, parts: 500 };
/** Of 57 bits, where no number holds each byte. */
const high = 2 ** 56;
const mapped = [
  { start: 2 ** 30, end: 2 ** 30 + 50.5 * mib },
  { start: high, end: high + 449.5 * mib },
];

function start(t: ExecutionContext, { files = {}, operations = 'vaddr\nfvaddr\npaddr' } = {}) {
  const tree = makeTree(t, { ...damonFiles, ...taskFiles(50), ...taskFiles(51), ...files });
  const kernel = fakeDamon(tree, operations);
  const read = (path: string): string => readFileSync(`${kernel.folder}/${path}`, 'utf8').trim();
  return { tree, kernel, read, take: () => takeDamon(tree, options, kernel.writer) };
}

/** As a dead agent left it; its mark is that of `tgid`. */
async function leaveBehind(t: ExecutionContext, tgid: number) {
  const machine = start(t);
  const damon = machine.take();
  await damon.begin(1, 50, mapped);
  const mark = Number(machine.read(`0/${markFile}`)) - process.pid + tgid;
  for (const i of [0, 1]) machine.tree.write({ [pathOf(i)]: String(mark) });
  machine.kernel.written.length = 0;
  return machine;
}

const pathOf = (i: number) => `sys/kernel/mm/damon/admin/kdamonds/${i}/${markFile}`;

test('a kdamond samples so many parts of a process, each for a whole window', async t => {
  const { take, kernel, read } = start(t);
  const damon = take();
  t.is(read('nr_kdamonds'), '2');
  await damon.begin(1, 50, mapped);
  t.deepEqual([...kernel.on], [[1, 50]]);
  const context = '1/contexts/0';
  t.is(read(`${context}/operations`), 'fvaddr');
  t.is(read(`${context}/targets/0/pid_target`), '50');
  t.is(read(`${context}/monitoring_attrs/intervals/sample_us`), '10000000');
  t.is(read(`${context}/monitoring_attrs/intervals/aggr_us`), '10000000');
  // Neither joined to another nor cut.
  t.is(read(`${context}/monitoring_attrs/nr_regions/min`), '500');
  t.is(read(`${context}/monitoring_attrs/nr_regions/max`), '752');
  const patterns = [0, 1].map(scheme =>
    ['min', 'max'].map(end =>
      read(`${context}/schemes/${scheme}/access_pattern/nr_accesses/${end}`),
    ),
  );
  t.deepEqual(patterns, [
    ['1', '4294967295'],
    ['0', '0'],
  ]);
  t.is(read(`${context}/schemes/0/access_pattern/sz/max`), '18446744073709551615');

  const regions = readdirSync(`${kernel.folder}/${context}/targets/0/regions`).filter(
    name => name !== 'nr_regions',
  );
  const bounds = regions
    .toSorted((a, b) => Number(a) - Number(b))
    .map(name => ['start', 'end'].map(end => read(`${context}/targets/0/regions/${name}/${end}`)));
  t.is(bounds.length, 501, 'one part lies in both ranges');
  t.deepEqual(bounds[0], [String(2 ** 30), String(2 ** 30 + mib)]);
  t.deepEqual(bounds.at(-1), ['72057594508214272', '72057594509262848']);

  // A window samples 500 MiB.
  kernel.finds(50, [300, 24 * mib], [703, 976 * mib]);
  t.deepEqual(await damon.ask(1), {
    windows: 2,
    usedBytes: 24 * mib,
  });
  await damon.end(1);
  t.is(kernel.on.size, 0);
  t.is(read(`${context}/targets/0/regions/nr_regions`), '0');
  damon.giveBack();
  t.is(read('nr_kdamonds'), '0');
  t.deepEqual(readdirSync(kernel.folder), ['nr_kdamonds']);
});

test('neither are many pieces joined nor few of them cut', async t => {
  const { take, read } = start(t);
  const damon = take();
  const count = (name: string) =>
    Number(
      read(
        `0/contexts/0/${name === 'all' ? 'targets/0/regions/nr_regions' : `monitoring_attrs/nr_regions/${name}`}`,
      ),
    );
  const scattered = Array.from({ length: 500 }, (_, i) => ({
    start: i * 2 * mib,
    end: (i * 2 + 1) * mib - 4096 * (i % 7),
  }));
  for (const ranges of [mapped, scattered, [{ start: 2 ** 30, end: 2 ** 30 + mib }]]) {
    await damon.begin(0, 50, ranges);
    t.true(count('min') <= count('all') && count('all') <= count('max'));
    t.true(count('all') > count('max') / 2);
    await damon.end(0);
  }
});

test('who takes the kdamonds while one is set up is not written to', async t => {
  const { take, kernel } = start(t);
  const damon = take();
  const begun = damon.begin(0, 50, mapped);
  kernel.refuse = path => {
    if (!path.endsWith('regions/49/end')) return null;
    kernel.refuse = () => null;
    setImmediate(() => {
      kernel.writer.now(`${kernel.folder}/nr_kdamonds`, '1');
      kernel.written.length = 0;
    });
    return null;
  };
  await t.throwsAsync(begun, { code: 'KERNEL_BUSY' });
  t.deepEqual(kernel.written, []);
});

test('what is on is ended when it is given back, and nothing is begun after that', async t => {
  const { take, kernel, read } = start(t);
  const damon = take();
  await damon.begin(0, 50, mapped);
  await damon.begin(1, 51, mapped);
  damon.giveBack();
  t.is(kernel.on.size, 0);
  t.is(read('nr_kdamonds'), '0');
  const before = kernel.written.length;
  await t.throwsAsync(damon.begin(0, 50, mapped), { code: 'KERNEL_BUSY' });
  await damon.end(1);
  damon.giveBack();
  t.is(kernel.written.length, before);
});

test('a kernel without it, or without virtual addresses, is told from one that is in use', t => {
  const without = makeTree(t, { 'proc/self/ns/pid': '' });
  t.throws(() => takeDamon(without, options), { code: 'KERNEL_MISSING', message: /DAMON_SYSFS/ });
  const physical = start(t, { operations: 'paddr' });
  t.throws(physical.take, { code: 'KERNEL_MISSING', message: /DAMON_VADDR/ });
  t.is(physical.read('nr_kdamonds'), '0', 'as it was');
  const before = physical.kernel.written.length;
  t.throws(physical.take, { code: 'KERNEL_MISSING', message: /DAMON_VADDR/ });
  t.is(physical.kernel.written.length, before, 'which does not change');
});

const others = {
  'kdamonds that somebody set up': {
    'sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds': '1',
    'sys/kernel/mm/damon/admin/kdamonds/0/contexts/0/monitoring_attrs/intervals/update_us': '1000',
  },
  'kdamonds without a context': { 'sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds': '1' },
  "a kernel module's": { 'sys/module/damon_reclaim/parameters/kdamond_pid': '77' },
  'a thread of the kernel': { 'proc/77/comm': 'kdamond.0', 'proc/77/cmdline': '' },
};

for (const [what, files] of Object.entries(others))
  test(`somebody else's is left alone: ${what}`, t => {
    const { take, kernel } = start(t, { files });
    t.throws(take, { code: 'KERNEL_BUSY' });
    t.deepEqual(kernel.written, []);
  });

test('a process that calls itself kdamond, and a module that is off, are in nobody’s way', t => {
  const { take } = start(t, {
    files: {
      'proc/77/comm': 'kdamond.0',
      'proc/77/cmdline': 'kdamond\0',
      'sys/module/damon_lru_sort/parameters/kdamond_pid': '-1',
    },
  });
  t.notThrows(() => take().giveBack());
});

test('what an agent left that was killed is taken away, and taken anew', async t => {
  const { take, kernel, read } = await leaveBehind(t, 999);
  const damon = take();
  t.deepEqual(kernel.written.slice(0, 3), ['0/state off', '1/state off', 'nr_kdamonds 0']);
  t.is(read('nr_kdamonds'), '2');
  t.is(kernel.on.size, 0);
  damon.giveBack();
});

test('what a living agent has is its own', async t => {
  const { take, kernel, tree } = await leaveBehind(t, 51);
  t.throws(take, {
    code: 'KERNEL_BUSY',
    message: /2 kdamonds .*of the agent that runs as process 51$/,
  });
  t.deepEqual(kernel.written, []);
  // It ends, and somebody makes one of them his own.
  tree.remove('proc/51');
  tree.write({ [pathOf(1)]: '1000000' });
  t.throws(take, { code: 'KERNEL_BUSY' });
  t.deepEqual(kernel.written, []);
});

test('who only looks writes nothing, and is told whose DAMON is', async t => {
  const free = start(t);
  t.like(lookAtDamon(free.tree), { isSure: false, found: 'DAMON is there, and nobody uses it' });
  const agents = await leaveBehind(t, 51);
  const look = () => lookAtDamon(agents.tree);
  t.like(look(), { isSure: true });
  t.regex(look().found, /of the agent that runs as process 51$/);
  // As one of another pid namespace would have marked them.
  const mark = Number(agents.read(`0/${markFile}`));
  const elsewhere = String(mark + 2 ** 22 * (mark > 1e15 + 2 ** 41 ? -1 : 1));
  agents.tree.write({ [pathOf(0)]: elsewhere, [pathOf(1)]: elsewhere });
  t.like(look(), { isSure: false });
  t.regex(look().found, /in another pid namespace; if it has ended, write "off"/);
  agents.tree.write({ [pathOf(0)]: String(mark), [pathOf(1)]: String(mark) });
  agents.tree.remove('proc/51');
  t.regex(look().found, /what an agent that has ended left there is taken away/);
  agents.tree.write({ [pathOf(1)]: '1000000' });
  t.throws(look, { code: 'KERNEL_BUSY', message: /not of an agent; if nobody uses them, write/ });
  t.deepEqual([...free.kernel.written, ...agents.kernel.written], []);
  t.throws(() => lookAtDamon(makeTree(t, {})), { code: 'KERNEL_MISSING' });
});

test('what somebody made of them meanwhile is not touched', async t => {
  const { take, kernel, tree } = start(t);
  const damon = take();
  kernel.writer.now(`${kernel.folder}/nr_kdamonds`, '1');
  tree.write({ [pathOf(0)]: '1000000' });
  kernel.written.length = 0;
  await t.throwsAsync(damon.begin(0, 50, mapped), {
    code: 'KERNEL_BUSY',
    message: /somebody else/,
  });
  await t.throwsAsync(damon.ask(0), { code: 'KERNEL_BUSY' });
  await damon.end(0);
  damon.giveBack();
  t.deepEqual(kernel.written, []);
});

test('DAMON is asked again while its lock is held, and what it refuses is said', async t => {
  const { take, kernel } = start(t);
  let busy = 3;
  kernel.refuse = () => {
    busy -= 1;
    return busy >= 0 ? 'EBUSY' : null;
  };
  const damon = take();
  busy = 3;
  await damon.begin(0, 50, mapped);
  t.deepEqual([...kernel.on], [[0, 50]]);
  await t.throwsAsync(damon.begin(1, 4242, mapped), {
    code: 'KERNEL_IO',
    message: /state did not take "on"/,
  });
  kernel.ends(50);
  await t.throwsAsync(damon.ask(0), { code: 'KERNEL_IO' });
  await damon.end(0);
  kernel.refuse = () => 'EBUSY';
  await t.throwsAsync(damon.begin(0, 51, mapped), { code: 'KERNEL_BUSY' });
  kernel.refuse = () => 'EACCES';
  await t.throwsAsync(damon.begin(0, 51, mapped), { code: 'KERNEL_PRIVILEGE' });
  kernel.refuse = () => null;
  damon.giveBack();
  t.true(existsSync(`${kernel.folder}/nr_kdamonds`));
});
