import { attr } from '../attributes.ts';
import { counter, headline, histogram, of } from './spec.ts';

export const schedMetrics = of('sched', {
  'container.cpu.time': headline('s', 'instance', 'Time its tasks ran on a CPU.'),
  'sculptor.runqueue.wait': headline(
    's',
    'instance',
    'Time its tasks were runnable and not running, without bandwidth throttling.',
  ),
  'sculptor.cpu.throttled.time': headline(
    's',
    'instance',
    'Time its tasks were kept from running by a CFS bandwidth quota.',
  ),
  'sculptor.runqueue.latency': histogram(
    's',
    'instance',
    'From runnable to running, each time a task got a CPU (throttled time taken off).',
  ),
  'sculptor.runqueue.wait.by_preemptor': counter(
    's',
    'instance',
    'sculptor.runqueue.wait by the instance that ran on the CPU meanwhile: the 5 largest of late by id, each of which keeps its place until another is twice as large (the instance itself is one where its own tasks wait for each other), `other`, and `none` (the CPU was idle and had to wake, or who ran is not known). A neighbour counts while it is among the 5. Never to be added to sculptor.runqueue.wait.',
    [attr.preemptor],
  ),
  'sculptor.cpu.time': counter(
    's',
    'instance',
    'Time its tasks ran, by `cpu.mode` (user, kernel): container.cpu.time, divided as the ticks of the kernel found it.',
    [attr.cpuMode],
  ),
  'sculptor.offcpu.time': counter(
    's',
    'instance',
    'Time its tasks were off the CPU and did not want it, by reason: io (in io_schedule), uninterruptible (state D otherwise: locks within the kernel, drivers), lock (in futex(2): mutexes, but idle threads of Go and musl too), sleep (all else: condition variables and semaphores of glibc too); and throttled. Open sleeps are in it up to now; one who is moved to another instance asleep counts for the former until it wakes, or for a minute.',
    [attr.reason],
  ),
  'sculptor.cpu.context_switches': counter(
    '{context_switch}',
    'instance',
    'How often its tasks left a CPU, voluntary or involuntary (still runnable).',
    [attr.switchType],
  ),
  'sculptor.cpu.wakeups': counter(
    '{wakeup}',
    'instance',
    'How often its tasks were woken from a sleep.',
  ),
  'sculptor.cpu.migrations': counter(
    '{migration}',
    'instance',
    'Moves of its tasks from one CPU to another.',
  ),
  'sculptor.cpu.node_migrations': counter(
    '{migration}',
    'instance',
    'Those of its migrations that went to a CPU of another memory node.',
  ),
  'sculptor.cpu.runqueue.wait': counter(
    's',
    'host',
    'Time that tasks waited for each logical CPU, without bandwidth throttling. Within a guest: for its vCPU, whether the guest or its host kept them.',
    [attr.cpu],
  ),
  'sculptor.task.cpu.time': counter(
    's',
    'task',
    'Time a hot task ran. Never to be added to the totals of its instance.',
  ),
  'sculptor.task.runqueue.wait': counter(
    's',
    'task',
    'Time a hot task was runnable and not running.',
  ),
  'sculptor.task.throttled.time': counter(
    's',
    'task',
    'Time a hot task was kept from running by a quota.',
  ),
  'sculptor.task.offcpu.time': counter(
    's',
    'task',
    'Time a hot task was off the CPU and did not want it, by reason, as sculptor.offcpu.time.',
    [attr.reason],
  ),
  'sculptor.task.context_switches': counter(
    '{context_switch}',
    'task',
    'How often a hot task left a CPU, voluntary or involuntary.',
    [attr.switchType],
  ),
  'sculptor.task.migrations': counter(
    '{migration}',
    'task',
    'Moves of a hot task from one CPU to another.',
  ),
  'sculptor.task.node_migrations': counter(
    '{migration}',
    'task',
    'Those that went to a CPU of another memory node.',
  ),
});
