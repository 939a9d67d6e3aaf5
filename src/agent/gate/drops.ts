import { type Counts, createCounts } from '../../otlp/counts.ts';

/** What was not let through, by reason; the first word says what is counted. */
export type DropReason =
  | 'connection_unknown'
  | 'connection_refused_user'
  | 'connection_too_many'
  | 'connection_too_many_guests'
  | 'connection_nuisance'
  | 'connection_failed'
  | 'request_malformed'
  | 'request_too_large'
  | 'request_too_many_resources'
  | 'request_too_many_records'
  | 'request_too_many_attributes'
  | 'request_over_rate'
  | 'request_queue_full'
  | 'request_over_share'
  | 'request_endpoint_unavailable'
  | 'request_endpoint_refused'
  | 'request_failed'
  | 'request_unserved'
  | 'record_endpoint_rejected'
  | 'record_too_many_series'
  | 'event_forbidden';

export type Drops = Counts<DropReason>;

/** Drops of one guest, which are drops of the gate as well. */
export function createDrops(all?: Drops): Drops {
  const own = createCounts<DropReason>();
  return {
    add: (reason, amount) => {
      own.add(reason, amount);
      all?.add(reason, amount);
    },
    read: own.read,
  };
}
