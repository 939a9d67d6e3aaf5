import type { Socket } from 'node:net';
import { describeError } from '../../contract/errors.ts';
import type { GateConfig } from '../../contract/gate-config.ts';
import type { Instance } from '../../contract/instance.ts';
import { attr } from '../../contract/metrics.ts';
import type { Clock, Running, Say } from '../../contract/ports.ts';
import type { Native } from '../../linux/native.ts';
import type { Roots } from '../../linux/roots.ts';
import type { Sample } from '../../otlp/sample.ts';
import type { Identity } from '../resources.ts';
import { createSayLimit } from '../say-limit.ts';
import { createDrops, type DropReason } from './drops.ts';
import { createForward } from './forward.ts';
import { createGuest, type Guest, type GuestStatus } from './guest.ts';
import type { GuestView } from './guest-view.ts';
import { type Admit, listenForGuests } from './listen.ts';

export type GateOptions = {
  readonly config: GateConfig;
  /** Where what guests say goes (OTLP/gRPC). */
  readonly endpoint: string;
  readonly host: Identity;
  readonly native: Native;
  readonly roots: Roots;
  readonly clock: Clock;
  readonly say: Say;
};

export type GateStatus = {
  readonly guests: readonly GuestStatus[];
  /** Points and log records of guests that were delivered. */
  readonly records: number;
  readonly dropped: Readonly<Partial<Record<DropReason, number>>>;
};

export type Gate = Running & {
  readonly status: () => GateStatus;
  /** What the guest of this identity says of its vCPUs; null where none is known. */
  readonly view: (instanceId: string) => GuestView | null;
  /** What the gate says of itself; `start` is when it began, in seconds since the epoch. */
  readonly samples: (start: number) => Sample[];
};

/** How often it is looked for requests of which no handler hears. */
const lookSeconds = 1;

/**
 * The only way in for what guests say: identity by transport, `sculptor.*` events kept out, everything bounded, and
 * nothing acknowledged that the endpoint has not taken.
 * @throws ConfigError CONFIG_SOCKET, CONFIG_INVALID
 */
export async function startGate(options: GateOptions): Promise<Gate> {
  const { config, clock, say } = options;
  const drops = createDrops();
  const forward = createForward({ ...config, endpoint: options.endpoint });
  const guests = new Map<string, Guest>();
  const sayNowAndThen = createSayLimit(clock, say);
  let records = 0;

  const guestOf = (instance: Instance): Guest | null => {
    const known = guests.get(instance.id);
    // The one that came last is the last to be forgotten.
    guests.delete(instance.id);
    if (guests.size >= config.maxGuests && !forgetOne(guests)) return null;
    const guest =
      known ??
      createGuest({
        host: options.host,
        instance,
        config,
        forward: forward.open(),
        drops,
        delivered: taken => {
          records += taken;
        },
        clock,
      });
    guests.set(instance.id, guest);
    return guest;
  };

  const refuse = (connection: Socket, reason: DropReason, message: string): void => {
    connection.destroy();
    drops.add(reason);
    sayNowAndThen(`agent: gate: ${message}; refused`);
  };

  const admit: Admit = (connection, whose, via) => {
    try {
      const instance = whose();
      if (instance === null || typeof instance === 'string') {
        const why = instance ?? 'no instance of this host is known there';
        refuse(connection, 'connection_unknown', `${via}: ${why}`);
        return;
      }
      const guest = guestOf(instance);
      if (guest) guest.accept(connection, via);
      else
        refuse(
          connection,
          'connection_too_many_guests',
          `${via}: ${instance.id}: ${config.maxGuests} guests are connected (agent.gate.maxGuests)`,
        );
    } catch (error) {
      refuse(connection, 'connection_failed', `${via}: ${describeError(error)}`);
    }
  };

  const listeners = await listenForGuests({
    config,
    native: options.native,
    roots: options.roots,
    clock,
    admit,
    refused: reason => drops.add(reason),
  }).catch(error => {
    forward.close();
    throw error;
  });

  const cancel = clock.every(lookSeconds, () => {
    for (const guest of guests.values()) guest.look();
  });

  const dropped = (): GateStatus['dropped'] => {
    const below = listeners.reduce((sum, { tooMany }) => sum + tooMany(), 0);
    const own = drops.read();
    const tooMany = (own.connection_too_many ?? 0) + below;
    return tooMany === 0 ? own : { ...own, connection_too_many: tooMany };
  };

  return {
    status: () => ({
      guests: [...guests.values()].map(guest => guest.status()),
      records,
      dropped: dropped(),
    }),
    view: instanceId => guests.get(instanceId)?.view() ?? null,
    samples: start => [
      { metric: 'sculptor.gate.records', start, value: records },
      ...Object.entries({ event_forbidden: 0, connection_unknown: 0, ...dropped() }).map(
        ([reason, value]): Sample => ({
          metric: 'sculptor.gate.dropped',
          attributes: { [attr.reason]: reason },
          start,
          value,
        }),
      ),
    ],
    stop: async () => {
      cancel();
      for (const guest of guests.values()) guest.stop();
      await Promise.all(listeners.map(({ close }) => close()));
      forward.close();
    },
  };
}

/** Forgets the guest that came first of those that are gone; false when all are there. */
function forgetOne(guests: Map<string, Guest>): boolean {
  for (const [id, guest] of guests) {
    if (guest.status().connections > 0) continue;
    guest.stop();
    guests.delete(id);
    return true;
  }
  return false;
}
