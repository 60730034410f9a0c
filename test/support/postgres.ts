import pg from 'pg';

import type { Backend } from './backend.ts';
import { EmbeddedPostgres } from './embedded-postgres.ts';

/** The Postgres of a test run: the one that DATABASE_URL names (its role must be able to create databases), else our own. */
export async function startPostgres(): Promise<Backend> {
  const url = process.env['DATABASE_URL'];
  if (url !== undefined && url !== '') return useRunning(url);
  const server = await EmbeddedPostgres.start();
  if (server === undefined) {
    return {
      missing: 'no DATABASE_URL, no /usr/lib/postgresql, and no binaries of embedded-postgres for this platform',
    };
  }
  return {
    address: server.url,
    how: server.how,
    ...(server.pid === undefined ? {} : { pid: server.pid }),
    stop: () => server.stop(),
  };
}

async function useRunning(url: string): Promise<Backend> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 });
  try {
    await client.connect();
    const { rows } = await client.query<{ version: string }>(`select current_setting('server_version') as version`);
    return { address: url, how: `the one of DATABASE_URL, version ${rows[0]?.version}`, stop: async () => undefined };
  } catch (error) {
    throw new Error('the Postgres that DATABASE_URL names does not answer', { cause: error });
  } finally {
    await client.end().catch(() => undefined);
  }
}
