import { readdir, readFile } from 'node:fs/promises';

import { sha256 } from '../../domain/digest.ts';
import { terminal } from '../../domain/errors.ts';
import type { PostgresDatabase, Query } from './postgres-database.ts';

interface Migration {
  readonly version: number;
  readonly name: string;
  readonly text: string;
  readonly checksum: string;
}

export interface MigrateOptions {
  /** Directory of `0001_name.sql`, `0002_name.sql`, …. Default: the migrations of this build. */
  readonly directory?: URL;
}

/** Any number that nothing else in the database uses. */
const LOCK_KEY = 7_587_843_801;
const TIMEOUT_MS = 60_000;
const OLDEST_SERVER = 140_000;

/**
 * Brings the schema `plugset` to what this build knows and returns the versions that were applied. Runners that start at
 * once take turns. Throws terminal `StoreUnavailable` when the database was migrated by a newer build, or a migration
 * that was applied is not the one of this build any more: then nothing is touched.
 */
export async function migrate(
  database: PostgresDatabase,
  signal: AbortSignal,
  options: MigrateOptions = {},
): Promise<readonly number[]> {
  const known = await readMigrations(options.directory ?? new URL('migrations/', import.meta.url));
  const applied: number[] = [];
  for (;;) {
    const version = await database.transaction((query) => applyNext(query, known), signal, TIMEOUT_MS);
    if (version === undefined) return applied;
    applied.push(version);
  }
}

/** Applies the first migration that is missing; one transaction each, so that a failed one leaves the others whole. */
async function applyNext(query: Query, known: readonly Migration[]): Promise<number | undefined> {
  await query('select pg_advisory_xact_lock($1)', [LOCK_KEY]);
  const isNew = await ensureBookkeeping(query);
  const done = isNew
    ? []
    : await query<Recorded>('select version, name, checksum from plugset.migrations order by version');
  checkRecorded(done, known);
  const next = known[done.length];
  if (next === undefined) return undefined;
  await query(next.text);
  await query('insert into plugset.migrations (version, name, checksum) values ($1, $2, $3)', [
    next.version,
    next.name,
    next.checksum,
  ]);
  return next.version;
}

interface Recorded {
  readonly version: number;
  readonly name: string;
  readonly checksum: string;
}

/** Asks first: `create … if not exists` needs the privilege to create even where there is nothing to do. */
async function ensureBookkeeping(query: Query): Promise<boolean> {
  const [row] = await query<{ exists: boolean; server: number }>(
    `select to_regclass('plugset.migrations') is not null as exists, current_setting('server_version_num')::int as server`,
  );
  if (row?.exists === true) return false;
  if ((row?.server ?? 0) < OLDEST_SERVER)
    throw terminal('StoreUnavailable', 'the Postgres database: plugset needs version 14 or newer');
  await query(`
    create schema if not exists plugset;
    create table plugset.migrations (
      version int primary key,
      name text not null,
      checksum text not null,
      applied_at timestamptz not null default now()
    );
    comment on table plugset.migrations is 'Which changes of this schema were made; written by plugset at start.';
    comment on column plugset.migrations.version is 'Number of the change.';
    comment on column plugset.migrations.name is 'What it is about.';
    comment on column plugset.migrations.checksum is 'Digest of its text; a build whose text differs refuses to start.';
    comment on column plugset.migrations.applied_at is 'When it was made.';
  `);
  return true;
}

function checkRecorded(done: readonly Recorded[], known: readonly Migration[]): void {
  for (const [index, recorded] of done.entries()) {
    const mine = known[index];
    if (mine === undefined) {
      throw terminal(
        'StoreUnavailable',
        `the schema plugset is at version ${done.length}, this build knows up to ${known.length}: it was upgraded by a newer plugset; run that one or a newer one`,
      );
    }
    if (recorded.version !== mine.version || recorded.checksum !== mine.checksum) {
      throw terminal(
        'StoreUnavailable',
        `migration ${recorded.version} (${recorded.name}) of the schema plugset was applied with another text than this build has: run the build that applied it`,
      );
    }
  }
}

async function readMigrations(directory: URL): Promise<readonly Migration[]> {
  const names = (await readdir(directory)).filter((file) => file.endsWith('.sql')).toSorted();
  return Promise.all(
    names.map(async (file, index) => {
      const match = /^(\d{4})_([a-z0-9-]+)\.sql$/.exec(file);
      if (match?.[2] === undefined || Number(match[1]) !== index + 1) {
        throw terminal('Internal', `${file} is not migration number ${index + 1}, 000${index + 1}_name.sql`);
      }
      // A checkout with CRLF is the same migration.
      const text = (await readFile(new URL(file, directory), 'utf8')).replaceAll('\r\n', '\n');
      return { version: index + 1, name: match[2], text, checksum: sha256(text) };
    }),
  );
}
