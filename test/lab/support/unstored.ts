/**
 * Before 6.2 a hook is refused a task's storage while another use of storage on its CPU is under way: one to five of some 150,000
 * events, in each of four runs of ten thousand threads that sleep and wake; four where 3,600 began and ended. Where it was of a task
 * coming or woken, the scheduler's account puts it right; of one that leaves it is an unseen switch.
 */
export function mostUnstored(kernel: string): number {
  return kernel === '6.1' ? 20 : 0;
}
