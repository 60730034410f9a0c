import { randomBytes } from 'node:crypto';
import pg from 'pg';

import { migrate } from '../../src/adapters/postgres/migrate.ts';
import { PostgresDatabase } from '../../src/adapters/postgres/postgres-database.ts';
import { eventually } from './eventually.ts';
import { RecordingLogger } from './recording-logger.ts';

/** A database of one test file or one case, and SQL past everything that is tested, as a person with psql writes it. */
export interface FreshDatabase {
  readonly url: string;
  sql<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** Fails when somebody is still connected: a pool was not closed. */
  drop(): Promise<void>;
}

/** `migrated: false` gives an empty one. The others are clones of a template that is migrated once per server. */
export async function freshDatabase(
  serverUrl: string,
  options: { readonly migrated?: boolean } = {},
): Promise<FreshDatabase> {
  const name = `test_${randomBytes(6).toString('hex')}`;
  await withClient(serverUrl, async (admin) => {
    const template = options.migrated === false ? 'template1' : await ensureTemplate(admin, serverUrl);
    await admin.query(`create database ${name} template ${template}`);
  });
  const url = databaseUrl(serverUrl, name);
  const client = new pg.Client({ connectionString: url, application_name: 'the test itself' });
  client.on('error', () => undefined);
  await client.connect();
  return {
    url,
    sql: async (text, values) => (await client.query(text, values === undefined ? [] : [...values])).rows,
    drop: async () => {
      await client.end();
      await withClient(serverUrl, async (admin) => {
        try {
          await nobodyConnected(admin, name);
        } finally {
          await admin.query(`drop database ${name} with (force)`);
        }
      });
    },
  };
}

/** A connection that was closed a moment ago may still be listed. */
async function nobodyConnected(admin: pg.Client, name: string): Promise<void> {
  const sql = 'select application_name from pg_stat_activity where datname = $1';
  await eventually(async () => {
    const { rows } = await admin.query<{ application_name: string }>(sql, [name]);
    if (rows.length > 0) throw new Error(`still connected: ${rows.map((row) => row.application_name).join(', ')}`);
  }, 3000);
}

const TEMPLATE = 'plugset_template';
/** Test files run at once, and one of them is the first. */
const TEMPLATE_LOCK = 4_711;

async function ensureTemplate(admin: pg.Client, serverUrl: string): Promise<string> {
  await admin.query('select pg_advisory_lock($1)', [TEMPLATE_LOCK]);
  const { rowCount } = await admin.query('select from pg_database where datname = $1 and datistemplate', [TEMPLATE]);
  if (rowCount === 0) {
    await admin.query(`drop database if exists ${TEMPLATE}`);
    await admin.query(`create database ${TEMPLATE}`);
    const database = new PostgresDatabase({
      connectionString: databaseUrl(serverUrl, TEMPLATE),
      logger: new RecordingLogger(),
    });
    try {
      await migrate(database, AbortSignal.timeout(30_000));
    } finally {
      await database.close();
    }
    await nobodyConnected(admin, TEMPLATE);
    await admin.query(`alter database ${TEMPLATE} is_template true`);
  }
  await admin.query('select pg_advisory_unlock($1)', [TEMPLATE_LOCK]);
  return TEMPLATE;
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

function databaseUrl(serverUrl: string, name: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return url.href;
}
