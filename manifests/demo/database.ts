import pg from 'pg';

import { EmbeddedPostgres } from '../../test/support/embedded-postgres.ts';
import type { Place } from './place.ts';

/** The Postgres in which the example workspaces are declared. */
export interface Database {
  readonly url: string;
  readonly how: string;
  stop(): Promise<void>;
}

const INSUFFICIENT_PRIVILEGE = '42501';

/** A database of the demo's own on the server that DATABASE_URL names, else a server of its own. */
export async function openDatabase(place: Place, given: string | undefined): Promise<Database> {
  if (given === undefined || given === '') return startServer(place);
  const borrowed = await borrowServer(given, `plugset_demo_${place.suffix}`);
  if (borrowed !== undefined) return borrowed;
  console.log('DATABASE_URL names a Postgres whose role may not create a database for the examples.');
  return startServer(place);
}

/** What somebody else declared on that server stays out of the examples, and the examples out of that. */
async function borrowServer(given: string, name: string): Promise<Database | undefined> {
  const remove = `drop database if exists ${name} with (force)`;
  try {
    await query(given, remove, `create database ${name}`);
  } catch (error) {
    if ((error as { code?: string }).code === INSUFFICIENT_PRIVILEGE) return undefined;
    throw new Error('the Postgres that DATABASE_URL names cannot be used; unset it to have one started', {
      cause: error,
    });
  }
  const url = new URL(given);
  url.pathname = `/${name}`;
  const how = `the server that DATABASE_URL names, with a database ${name} for the examples`;
  return { url: url.href, how, stop: () => query(given, remove) };
}

async function startServer(place: Place): Promise<Database> {
  const server = await EmbeddedPostgres.start();
  if (server === undefined) {
    throw new Error('there is no Postgres for this platform; set DATABASE_URL to one that runs');
  }
  const { pid, directory } = server;
  if (pid !== undefined) await place.record({ postgres: { pid, directory } });
  return { url: server.url, how: `a server of its own, ${server.how}`, stop: () => server.stop() };
}

async function query(url: string, ...statements: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  try {
    await client.connect();
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}
