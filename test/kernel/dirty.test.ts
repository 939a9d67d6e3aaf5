import { setTimeout as sleep } from 'node:timers/promises';
import ava from 'ava';
import { askQmp } from '../../src/linux/qmp.ts';
import { type Guest, withGuests } from '../lab/guest/guest.ts';
import { needsLab } from '../lab/needs-lab.ts';
import { makeCgroupBox } from '../support/cgroup-box.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';
import { startTold } from '../support/told-agent.ts';

const onThisMachine = needs('root', 'btf', 'addon', 'cgroupV1Cpu');
const test = onThisMachine === ava.serial ? needsLab() : onThisMachine;

const mib = 1 << 20;
const pageBytes = 4096;
/** Half of the guest's memory, so that few measurements tell much. */
const bufferMb = 96;
/** Measurements that are looked at; each is of 96 pages, so of some 23 that were written to: 12 % in all. */
const measurements = 3;

test("how fast a guest writes to its memory is told by its QEMU, and nobody else's measurement is disturbed", async t => {
  t.timeout(240_000);
  const cgroupOfItsOwn = (): string => {
    const box = makeCgroupBox('/sys/fs/cgroup/cpu');
    t.teardown(box.end);
    return box.folder;
  };
  const [workload, cgroups] = [`dirtying,${bufferMb},16384`, [cgroupOfItsOwn()]];
  const writing = { name: 'writer', workload, cgroups, deadlineSeconds: 200 };
  const idling = ['idler', 'asked'].map(name => {
    return { name, cgroups: [cgroupOfItsOwn()], deadlineSeconds: 200 };
  });
  const told = await startTold({
    profile: 'full',
    placementIntervalSeconds: 1,
    // As long as a measurement takes, so that each is told once.
    detailIntervalSeconds: 2,
  });
  t.teardown(told.stop);
  const ratesOf = ({ uuid }: Guest) =>
    told.pointsOf('sculptor.memory.dirty_rate', uuid).map(({ value }) => Number(value));
  /** Its mean from now on, without what is of the time before. */
  const meanOf = async (guest: Guest): Promise<number> => {
    const before = ratesOf(guest).length + 3;
    const rates = await eventually(`the rates of ${guest.name}`, 60, () => {
      const later = ratesOf(guest).slice(before);
      return later.length >= measurements ? later : null;
    });
    t.log(`${guest.name}: ${rates.map(rate => rate / mib).join(' ')} MiB/s`);
    return rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
  };

  await withGuests([writing, ...idling], async ([writer, idler, asked]) => {
    if (!writer || !idler || !asked) throw new Error('three were asked for');
    await writer.console.waitFor(/^DIRTIED/, 60);
    const [written, idle, result] = await Promise.all([
      meanOf(writer),
      meanOf(idler),
      measureLong(asked),
    ]);
    t.like(result, { status: 'measured', 'calc-time': longSeconds });
    const expected = writtenBytesPerSecond(writer);
    t.log(`the writer's own account: ${(expected / mib).toFixed(1)} MiB/s`);
    t.true(Math.abs(written / expected - 1) < 0.5, `${written} told, ${expected} written`);
    t.true(idle < written / 4, `${idle} of the guest that idles`);
    const { sources, lost } = told.agent.status();
    t.is(sources['dirty'], 'running');
    t.is(lost['dirty_unanswered'], 0);
  });
});

/** Such as lasts for several of the agent's turns. */
const longSeconds = 8;

/** Has a QEMU measure for somebody else than the agent, one of whose own may be under way just now. */
async function measureLong({ qmpSocket }: Guest): Promise<unknown> {
  const limits = { timeoutSeconds: 2, maxBytes: 1 << 20 };
  const isBegun = () =>
    askQmp(qmpSocket, 'calc-dirty-rate', limits, { 'calc-time': longSeconds }).then(
      () => true,
      () => null,
    );
  for (let i = 0; (await isBegun()) === null; i += 1) {
    if (i > 50) throw new Error('QEMU refuses each measurement of ours');
    await sleep(200);
  }
  await sleep(longSeconds * 1000 + 500);
  return await askQmp(qmpSocket, 'query-dirty-rate', limits);
}

/** By what the guest says of itself: of random pages of its buffer, those that it wrote to at least once in a second. */
function writtenBytesPerSecond(guest: Guest): number {
  const said = guest.console.tail(2000).flatMap(line => {
    const [, pages, at] = /^DIRTIED (\d+) pages at ([\d.]+)/.exec(line) ?? [];
    return pages === undefined ? [] : [{ pages: Number(pages), at: Number(at) }];
  });
  const [first, last] = [said[0], said.at(-1)];
  if (!first || !last || first === last) throw new Error('the guest has not said what it wrote');
  const writesPerSecond = (last.pages - first.pages) / (last.at - first.at);
  const all = (bufferMb * mib) / pageBytes;
  return all * (1 - Math.exp(-writesPerSecond / all)) * pageBytes;
}
