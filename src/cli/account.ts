import { execFileSync } from 'node:child_process';
import { ConfigError } from '../contract/errors.ts';

/** A user with all groups that the user database gives it; `groups` includes `gid`. */
export type Account = {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
};

/**
 * The account of a name, by the machine's user database; a uid that has none is a user of one group of the same number.
 * @throws ConfigError CONFIG_INVALID for a name that it does not have
 */
export function accountOf(user: string | number): Account {
  try {
    const ask = (what: string): number[] =>
      execFileSync('id', [what, '--', `${user}`], { encoding: 'utf8', stdio: 'pipe' })
        .trim()
        .split(' ')
        .map(Number);
    const [[uid], [gid], groups] = [ask('-u'), ask('-g'), ask('-G')];
    if (uid !== undefined && gid !== undefined) return { uid, gid, groups };
  } catch (cause) {
    const isUid = /^\d{1,10}$/.test(`${user}`);
    if (isUid) return { uid: Number(user), gid: Number(user), groups: [Number(user)] };
    throw unknownUser(user, cause);
  }
  throw unknownUser(user);
}

function unknownUser(user: string | number, cause?: unknown): ConfigError {
  return new ConfigError(
    'CONFIG_INVALID',
    `agent.user: wanted a user of this machine or a uid, got ${JSON.stringify(user)}`,
    { at: 'agent.user', got: user },
    cause,
  );
}
