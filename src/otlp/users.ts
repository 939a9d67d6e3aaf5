import { readFileSync } from 'node:fs';
import { ConfigError } from '../contract/errors.ts';

/**
 * The uids of a list of users: numbers as they are, names by the user database. `key`: where the configuration has it.
 * @throws ConfigError CONFIG_INVALID for a name that it does not have
 */
export function uidsOf(
  users: readonly (string | number)[],
  key = 'sockets.allowUsers',
  passwd = '/etc/passwd',
): number[] {
  let known: ReadonlyMap<string, number> | null = null;
  return users.map(user => {
    if (typeof user === 'number') return user;
    known ??= readUsers(passwd);
    const uid = known.get(user);
    if (uid !== undefined) return uid;
    throw new ConfigError(
      'CONFIG_INVALID',
      `${key}: wanted a user of ${passwd} or a uid, got ${JSON.stringify(user)}`,
      { at: key, got: user },
    );
  });
}

/** passwd(5): name:password:uid:… */
function readUsers(passwd: string): ReadonlyMap<string, number> {
  const users = new Map<string, number>();
  for (const line of readFileSync(passwd, 'utf8').split('\n')) {
    const [name, , uid] = line.split(':');
    if (name && uid && /^\d+$/.test(uid)) users.set(name, Number(uid));
  }
  return users;
}
