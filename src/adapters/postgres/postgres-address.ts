import pg from 'pg';

import { terminal } from '../../domain/errors.ts';

/** Where a database is, in words for people, and what may never be among them. */
export interface PostgresAddress {
  /** `database plugset at db.example.com:5432 (DATABASE_URL)`: no user, no password. */
  readonly place: string;
  /** Texts to take out of whatever the driver says. */
  readonly secrets: readonly string[];
  readonly asksForTls: boolean;
}

const FORM = 'postgres://user:password@host:port/database';

/**
 * Reads a connection string as the driver would. Throws terminal `StoreUnavailable` of one that is none, and of one
 * whose password has broken out of its place: the driver would take part of it for a host or a database and say so.
 */
export function readAddress(connectionString: string, origin: string | undefined): PostgresAddress {
  const { host, port, database, password } = parse(connectionString, origin);
  const isSocket = host.startsWith('/');
  const at = isSocket ? `the socket in ${host}` : `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const from = origin === undefined ? '' : ` (${origin})`;
  return {
    place: `database ${database ?? '(no name)'} at ${at}${from}`,
    secrets: password === null || password === undefined || password === '' ? [] : formsOf(password),
    asksForTls: /[?&]ssl/.test(connectionString),
  };
}

function parse(connectionString: string, origin: string | undefined): pg.Client {
  const [, authority, rest = ''] = /^postgres(?:ql)?:\/\/([^/?#]*)(.*)$/is.exec(connectionString) ?? [];
  // An @ after the host is the end of a password that had a / ? or # in it.
  const hasBrokenPassword = /^[^?]*@/.test(rest) || (rest.includes('@') && authority?.includes('@') === false);
  if (authority !== undefined && !hasBrokenPassword) {
    try {
      return new pg.Client({ connectionString });
    } catch {
      // What the driver says may quote it.
    }
  }
  const which = origin === undefined ? 'the connection string of the Postgres database' : origin;
  const problem = hasBrokenPassword
    ? 'has a special character in the user or the password that must be percent-encoded (/ is %2F, ? is %3F, # is %23, @ is %40)'
    : 'does not read as one';
  throw terminal('StoreUnavailable', `${which} ${problem}: ${FORM}`);
}

/** As it is, and as it stands in a URL; the longest first, as one may hold the other. */
function formsOf(secret: string): readonly string[] {
  return [...new Set([secret, encodeURIComponent(secret), encodeURI(secret)])].toSorted((a, b) => b.length - a.length);
}
