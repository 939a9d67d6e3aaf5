import type { DatabaseSync } from 'node:sqlite';
import { SculptorError } from '../contract/errors.ts';
import { readTaskStat } from '../linux/procfs.ts';
import type { Roots } from '../linux/roots.ts';
import { journalError, unusable } from './journal-file.ts';
import { bootId } from './kernel.ts';

/**
 * Makes this process the only one that acts by a journal: a row with the holder's tgid, start ticks and boot. A holder that
 * has ended (kill -9 included) holds nothing, whatever it left behind.
 * @throws SculptorError JOURNAL when another process that lives holds it
 */
export function lockJournal(
  journal: { path: string; db: DatabaseSync },
  roots: Roots,
  tgid: number = process.pid,
): { release: () => void } {
  const { db, path } = journal;
  const mine = [tgid, readTaskStat(roots, tgid)?.startTicks ?? 0, bootId(roots)].join(' ');
  try {
    db.exec('BEGIN IMMEDIATE');
    const held = db.prepare("SELECT value FROM meta WHERE key = 'lock'").get()?.['value'];
    if (typeof held === 'string' && held !== mine && isAlive(roots, held)) {
      throw journalError(
        path,
        `process ${held.split(' ')[0]} (a running sculptor) holds it. Stop that one: it gives everything back as it ends ("sculpt mode observe" does so too, and leaves it running)`,
      );
    }
    db.prepare("INSERT OR REPLACE INTO meta VALUES ('lock', ?)").run(mine);
    db.exec('COMMIT');
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error instanceof SculptorError ? error : unusable(path, error);
  }
  return {
    release: () => {
      try {
        db.prepare("DELETE FROM meta WHERE key = 'lock' AND value = ?").run(mine);
      } catch {
        // On a full disk it stays, and means nothing once this process has ended: what was given back is told before that.
      }
    },
  };
}

function isAlive(roots: Roots, held: string): boolean {
  const [tgid, startTicks, boot] = held.split(' ');
  return (
    boot === bootId(roots) && readTaskStat(roots, Number(tgid))?.startTicks === Number(startTicks)
  );
}
