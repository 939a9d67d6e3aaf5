import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describeError, SculptorError } from '../contract/errors.ts';
import { findLockHolders } from '../linux/lock-holders.ts';
import type { Roots } from '../linux/roots.ts';
import { makeFolders } from '../otlp/make-folders.ts';
import { applicationId, createTables, schemaVersion } from './journal-schema.ts';

/**
 * Opens the SQLite file, or makes it: WAL, every commit on disk before it is acted on (synchronous=FULL), and held by this
 * process alone until it is closed or has ended. What is there already takes no space to be opened, held and read.
 * @throws SculptorError JOURNAL, which says what to do; also when another process that lives holds it
 */
export function openJournalFile(path: string, roots: Roots): DatabaseSync {
  let db: DatabaseSync | null = null;
  try {
    makeFolders(dirname(path), 0o700);
    db = new DatabaseSync(path, { timeout: 2000 });
    // The index of the WAL is then in memory: as a file it would be made anew at each start, which a full disk refuses.
    db.exec('PRAGMA locking_mode = EXCLUSIVE');
    prepare(db, path);
    return db;
  } catch (cause) {
    db?.close();
    if (cause instanceof SculptorError) throw cause;
    throw isBusy(cause) ? heldByOther(path, roots, cause) : unusable(path, cause);
  }
}

/** 5 SQLITE_BUSY, in the lowest byte of its kinds. */
function isBusy(cause: unknown): boolean {
  return (((cause as { errcode?: number }).errcode ?? 0) & 0xff) === 5;
}

function heldByOther(path: string, roots: Roots, cause: unknown): SculptorError {
  const [holder] = findLockHolders(roots, path);
  const who = holder === undefined ? 'another process' : `process ${holder}`;
  return journalError(path, `${who} holds it; wanted it alone: end that one first`, cause);
}

function prepare(db: DatabaseSync, path: string): void {
  const pragma = (name: string) =>
    Number(Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0]);
  const tables = db.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.['n'];
  if (tables === 0 && pragma('application_id') === 0) {
    db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;`);
    db.exec(
      `BEGIN IMMEDIATE; ${createTables} PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${schemaVersion}; COMMIT`,
    );
    return;
  }
  if (pragma('application_id') !== applicationId) {
    throw journalError(
      path,
      'is an SQLite file of something else; wanted a journal of the sculptor. Name another file (sculptor.journal)',
    );
  }
  const version = pragma('user_version');
  if (version !== schemaVersion) {
    throw journalError(
      path,
      `has schema ${version}; wanted ${schemaVersion}. Run "sculpt restore" with the version that wrote it, then move the file away`,
    );
  }
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
  const check = db.prepare('PRAGMA quick_check(1)').get()?.['quick_check'];
  if (check !== 'ok') throw unusable(path, new Error(String(check)));
}

/** Says what to do about a file that SQLite refuses. */
function unusable(path: string, cause: unknown): SculptorError {
  const code = (cause as { errcode?: number; code?: string }).errcode;
  // 11 SQLITE_CORRUPT, 26 SQLITE_NOTADB: https://sqlite.org/rescode.html
  const corrupt = code === 11 || code === 26 || !(code || (cause as { code?: string }).code);
  const advice = corrupt
    ? 'the file is damaged, or no SQLite file. What it held cannot be undone by itself: compare weights, cpusets and affinities by hand, then move it away'
    : 'wanted a folder and a file that this user may write (root, or set sculptor.journal), and space on its disk';
  return journalError(path, `${describeError(cause)}; ${advice}`, cause);
}

function journalError(path: string, message: string, cause?: unknown): SculptorError {
  return new SculptorError('JOURNAL', `journal ${path}: ${message}`, { path }, cause);
}
