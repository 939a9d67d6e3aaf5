import { setTimeout as sleep } from 'node:timers/promises';

/*
 * The CPUs of a shared machine are not equally fast each hour, nor are those of two machines: what the same work took beside a figure
 * says under which conditions it is. No figure is scaled by it: from one machine to another that does not hold.
 */

const rows = Array.from({ length: 400 }, (_, i) => ({
  id: i,
  name: `row ${i}`,
  values: [i, i / 7],
}));
const secondsBetween = 5;

/** µs of a CPU that a fixed piece of work takes now. */
function timeOnce(): number {
  const before = process.cpuUsage();
  for (let i = 0; i < 20; i += 1) JSON.parse(JSON.stringify(rows));
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

/** The median of such, one every few seconds, over so many seconds. */
export async function timeFixedWork(seconds: number): Promise<number> {
  const until = performance.now() + seconds * 1000;
  const times: number[] = [];
  for (;;) {
    const left = until - performance.now();
    await sleep(Math.min(left, secondsBetween * 1000));
    if (left <= secondsBetween * 1000) break;
    times.push(timeOnce());
  }
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? Number.NaN;
}
