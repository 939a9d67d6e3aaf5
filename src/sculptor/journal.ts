import type { DatabaseSync, SQLOutputValue } from 'node:sqlite';
import * as z from 'zod';
import { type Action, actionSchema, finalActionStates } from '../contract/action.ts';
import { type Mode, modeSchema } from '../contract/policy.ts';
import type { Roots } from '../linux/roots.ts';
import { keptAllocations } from './action-log.ts';
import type { UndoEntry, UndoKind, UndoResult } from './actuators/actuator.ts';
import { openJournalFile } from './journal-file.ts';

export type HeartbeatOrder = { readonly epoch: number; readonly sequence: number };

/** An entry with its place in the action. `order` ascends as they were applied. */
export type OpenEntry = UndoEntry & { readonly action: string; readonly order: number };

/** Final actions that are kept, with their entries, for people and for the limits after a restart. */
const keptFinalActions = 1000;

const ceilingSchema = z.strictObject({ mode: modeSchema, configured: modeSchema.optional() });

/** What was changed and how to undo it, on disk before it is done. Every method throws SculptorError JOURNAL or SQLite's own. */
export type Journal = ReturnType<typeof openJournal>;

/** @throws SculptorError JOURNAL when the file is corrupt, foreign, newer, cannot be written, or is held by another process */
export function openJournal(path: string, boot: string, roots: Roots) {
  const db = openJournalFile(path, roots);
  const sql = statements(db);
  const inTransaction = transactionOf(db);
  return {
    path,
    db,
    /** The action's row, without most of its allocations. */
    saveAction: (action: Action): void => {
      const record = { ...action, allocations: action.allocations.slice(0, keptAllocations) };
      const final = finalActionStates.has(action.state) ? 1 : 0;
      sql.saveAction.run(action.id, boot, action.state, action.at, final, JSON.stringify(record));
    },
    /** Entries and row in one transaction: when it returns they survive a crash. */
    openEntries: (action: Action, first: number, entries: readonly UndoEntry[]): void =>
      inTransaction(() => {
        const record = { ...action, allocations: action.allocations.slice(0, keptAllocations) };
        sql.saveAction.run(action.id, boot, action.state, action.at, 0, JSON.stringify(record));
        entries.forEach((entry, i) => {
          const own = entry.ownMask === null ? null : Number(entry.ownMask);
          sql.openEntry.run(
            ...[action.id, first + i, entry.resource, entry.kind, entry.key, entry.identity],
            ...[entry.before, entry.wanted, own, entry.tgid],
          );
        });
      }),
    closeEntries: (results: readonly { entry: OpenEntry; state: UndoResult['state'] }[]): void =>
      inTransaction(() => {
        for (const { entry, state } of results) {
          if (state !== 'failed') sql.closeEntry.run(state, entry.action, entry.order);
        }
      }),
    /**
     * Actions that have not ended or hold something, in the order in which they began (a renewal changes `at`), with their open
     * entries; `boot` tells whether they are of this boot.
     */
    openActions: (): { id: string; boot: string; action: Action | null; entries: OpenEntry[] }[] =>
      sql.openActions.all().map(row => ({
        id: String(row['id']),
        boot: String(row['boot']),
        action: actionOf(row['record']),
        entries: sql.entriesOf.all(String(row['id'])).map(openEntryOf),
      })),
    openEntriesOf: (action: string): OpenEntry[] => sql.entriesOf.all(action).map(openEntryOf),
    /** Which action holds each resource that is not given back yet. */
    openResources: (): Map<string, string> =>
      new Map(
        sql.openResources
          .all()
          .map(row => [String(row['resource']), String(row['action'])] as const),
      ),
    entriesOf: (action: string): OpenEntry[] => sql.allEntriesOf.all(action).map(openEntryOf),
    /** Whether a thread without a mask of its own was given all possible CPUs back. */
    relaxed: (tid: number, startTicks: number): boolean =>
      sql.relaxed.get(`affinity:${tid}@${startTicks}`) !== undefined,
    recentActions: (most: number): Action[] =>
      sql.recentActions.all(most).flatMap(row => actionOf(row['record']) ?? []),
    /** Answers false when the id is there already. */
    see: (id: string, expires: number): boolean => sql.see.run(id, expires).changes === 1,
    newestHeartbeat: (): HeartbeatOrder | null => {
      const text = sql.getMeta.get('heartbeat')?.['value'];
      const [epoch, sequence] = typeof text === 'string' ? text.split(' ').map(Number) : [];
      return epoch === undefined || sequence === undefined ? null : { epoch, sequence };
    },
    saveHeartbeat: ({ epoch, sequence }: HeartbeatOrder): void => {
      sql.setMeta.run('heartbeat', `${epoch} ${sequence}`);
    },
    /** What a person set, and what the configuration said then. */
    ceiling: (): z.infer<typeof ceilingSchema> | null => {
      const [mode, configured] = String(sql.getMeta.get('ceiling')?.['value'] ?? '').split(' ');
      return ceilingSchema.safeParse({ mode, configured }).data ?? null;
    },
    saveCeiling: (mode: Mode, configured: Mode): void => {
      sql.setMeta.run('ceiling', `${mode} ${configured}`);
    },
    approvedAt: (moves: string): number | null => {
      const at = sql.getApproval.get(moves)?.['at'];
      return typeof at === 'number' ? at : null;
    },
    saveApproval: (moves: string, at: number): void => {
      sql.saveApproval.run(moves, at);
    },
    /** Forgets what is over: expired ids, approvals older than a day, final actions past the newest 1000. */
    prune: (now: number): void =>
      inTransaction(() => {
        sql.forgetSeen.run(now);
        sql.forgetApprovals.run(now - 86_400);
        sql.forgetActions.run(keptFinalActions);
        sql.forgetEntries.run();
      }),
    close: (): void => db.close(),
  };
}

function statements(db: DatabaseSync) {
  return {
    saveAction: db.prepare(
      'INSERT INTO actions VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state, at = excluded.at, final = excluded.final, record = excluded.record',
    ),
    openEntry: db.prepare("INSERT INTO undo VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open')"),
    closeEntry: db.prepare('UPDATE undo SET state = ? WHERE action = ? AND ord = ?'),
    openActions: db.prepare(
      "SELECT * FROM actions WHERE final = 0 OR id IN (SELECT action FROM undo WHERE state = 'open') ORDER BY rowid",
    ),
    entriesOf: db.prepare("SELECT * FROM undo WHERE action = ? AND state = 'open' ORDER BY ord"),
    allEntriesOf: db.prepare('SELECT * FROM undo WHERE action = ? ORDER BY ord'),
    openResources: db.prepare(
      "SELECT resource, action FROM undo WHERE state = 'open' AND kind <> 'born'",
    ),
    relaxed: db.prepare(
      "SELECT 1 FROM undo WHERE resource = ? AND kind = 'affinity' AND own_mask = 0 AND state = 'restored' LIMIT 1",
    ),
    recentActions: db.prepare('SELECT record FROM actions ORDER BY at DESC LIMIT ?'),
    see: db.prepare('INSERT OR IGNORE INTO seen VALUES (?, ?)'),
    getMeta: db.prepare('SELECT value FROM meta WHERE key = ?'),
    setMeta: db.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)'),
    getApproval: db.prepare('SELECT at FROM approvals WHERE moves = ?'),
    saveApproval: db.prepare('INSERT OR REPLACE INTO approvals VALUES (?, ?)'),
    forgetSeen: db.prepare('DELETE FROM seen WHERE expires < ?'),
    forgetApprovals: db.prepare('DELETE FROM approvals WHERE at < ?'),
    forgetActions: db.prepare(
      "DELETE FROM actions WHERE final = 1 AND id NOT IN (SELECT action FROM undo WHERE state = 'open') AND id NOT IN (SELECT id FROM actions WHERE final = 1 ORDER BY at DESC LIMIT ?)",
    ),
    forgetEntries: db.prepare(
      "DELETE FROM undo WHERE state <> 'open' AND action NOT IN (SELECT id FROM actions)",
    ),
  };
}

function transactionOf(db: DatabaseSync): (run: () => void) => void {
  return run => {
    db.exec('BEGIN IMMEDIATE');
    try {
      run();
      db.exec('COMMIT');
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK');
      throw error;
    }
  };
}

type Row = Record<string, SQLOutputValue>;

function openEntryOf(row: Row): OpenEntry {
  const own = row['own_mask'];
  return {
    action: String(row['action']),
    order: Number(row['ord']),
    resource: String(row['resource']),
    kind: String(row['kind']) as UndoKind,
    key: String(row['key']),
    identity: Number(row['identity']),
    before: String(row['before']),
    wanted: String(row['wanted']),
    ownMask: own === null || own === undefined ? null : own === 1,
    tgid: Number(row['tgid']),
  };
}

/** A row that an other version wrote may not parse: its entries are undone all the same. */
function actionOf(record: SQLOutputValue | undefined): Action | null {
  return typeof record === 'string'
    ? (actionSchema.safeParse(JSON.parse(record)).data ?? null)
    : null;
}
