import { describeError } from '../../contract/errors.ts';
import type { Clock } from '../../contract/ports.ts';
import type { Domain, DomainAnswer } from '../../linux/libvirt.ts';

export type AskDomains = (domains: readonly Domain[]) => Promise<ReadonlyMap<string, DomainAnswer>>;

export type LibvirtTurns = {
  /** Null: it was not its turn before the time was up. */
  readonly ask: (domain: Domain) => Promise<DomainAnswer | null>;
  readonly stop: () => void;
};

const turnSeconds = 1;
/** Asked at once: what is asked is one argument of a program, and the kernel takes 128 KiB of it. Others wait for the next time. */
const mostAtOnce = 500;

/**
 * Asks libvirt of all domains that wait for an answer, at once, and once in an interval at most: to start its client and to connect
 * takes as much as some twenty domains do. Nothing is started while nobody waits.
 */
export function createLibvirtTurns(
  clock: Clock,
  intervalSeconds: () => number,
  ask: AskDomains,
): LibvirtTurns {
  type Waiting = { domain: Domain; resolve: (answer: DomainAnswer | null) => void };
  let waiting: Waiting[] = [];
  let asking = false;
  let nextAsk = Number.NEGATIVE_INFINITY;

  const take = async (asked: readonly Waiting[]): Promise<void> => {
    try {
      const answers = await ask(asked.map(({ domain }) => domain));
      for (const { domain, resolve } of asked) resolve(answers.get(domain.uuid) ?? null);
    } catch (error) {
      const answer = { why: 'libvirt_silent', detail: describeError(error) } as const;
      for (const { resolve } of asked) resolve(answer);
    }
  };

  const stop = clock.every(turnSeconds, () => {
    const now = clock.monotonicSeconds();
    if (asking || waiting.length === 0 || now < nextAsk) return;
    const asked = waiting.slice(0, mostAtOnce);
    waiting = waiting.slice(mostAtOnce);
    nextAsk = now + intervalSeconds();
    asking = true;
    void take(asked).then(() => {
      asking = false;
    });
  });

  return {
    ask: domain => new Promise(resolve => void waiting.push({ domain, resolve })),
    stop,
  };
}
