/** `SCUL`: tells a journal from any other SQLite file. */
export const applicationId = 0x5343554c;
export const schemaVersion = 1;

/** `state` of an undo entry: open until it is given back, gone, or left to whoever changed it. */
export const createTables = `
  CREATE TABLE actions (
    id TEXT PRIMARY KEY, boot TEXT NOT NULL, state TEXT NOT NULL, at REAL NOT NULL, final INTEGER NOT NULL, record TEXT NOT NULL
  ) STRICT;
  CREATE INDEX actions_by_time ON actions (final, at);
  CREATE TABLE undo (
    action TEXT NOT NULL, ord INTEGER NOT NULL, resource TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
    identity INTEGER NOT NULL, before TEXT NOT NULL, wanted TEXT NOT NULL, own_mask INTEGER, tgid INTEGER NOT NULL,
    state TEXT NOT NULL, PRIMARY KEY (action, ord)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX undo_open ON undo (action) WHERE state = 'open';
  CREATE INDEX undo_relaxed ON undo (resource) WHERE kind = 'affinity' AND own_mask = 0;
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE seen (id TEXT PRIMARY KEY, expires REAL NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE approvals (moves TEXT PRIMARY KEY, at REAL NOT NULL) STRICT, WITHOUT ROWID;
`;
