import { readdir, readFile } from 'node:fs/promises';

import { sha256 } from '../../domain/digest.ts';
import { terminal, type ReconcileError } from '../../domain/errors.ts';
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
const OURS = new URL('migrations/', import.meta.url);

/**
 * `migrate` (run, once) makes the schema and brings it up to date; `create` (apply) makes it where there is none at all;
 * `check` (every other command) changes nothing, so that whoever only looks needs no right to do more.
 */
export type SchemaMode = 'migrate' | 'create' | 'check';

/**
 * Sees to it that the schema `plugset` is what this build knows, as far as `mode` allows, and returns the versions that
 * were applied. Throws terminal `StoreUnavailable` when it is not and may not become so: it was migrated by a newer
 * build, or a migration that was applied is not the one of this build any more; then nothing is touched.
 */
export async function prepareSchema(
  database: PostgresDatabase,
  mode: SchemaMode,
  signal: AbortSignal,
  options: MigrateOptions = {},
): Promise<readonly number[]> {
  if (mode === 'migrate') return migrate(database, signal, options);
  const known = await readMigrations(options.directory ?? OURS);
  const done = await database.transaction((query) => readRecorded(query), signal);
  if (done.length === 0 && mode === 'create') return migrate(database, signal, options);
  if (done.length === 0) throw noSchema(database.place);
  checkRecorded(done, known, database.place);
  if (done.length === known.length) return [];
  throw terminal(
    'StoreUnavailable',
    `${database.place} was set up by an older plugset (schema ${done.length}, this one knows ${known.length}): \`plugset run\` or \`plugset once\` of this version brings it up to date`,
  );
}

/**
 * Brings the schema `plugset` to what this build knows and returns the versions that were applied. Runners that start at
 * once take turns.
 */
export async function migrate(
  database: PostgresDatabase,
  signal: AbortSignal,
  options: MigrateOptions = {},
): Promise<readonly number[]> {
  const known = await readMigrations(options.directory ?? OURS);
  const applied: number[] = [];
  for (;;) {
    const version = await database.transaction((query) => applyNext(query, known, database.place), signal, TIMEOUT_MS);
    if (version === undefined) return applied;
    applied.push(version);
  }
}

/** Applies the first migration that is missing; one transaction each, so that a failed one leaves the others whole. */
async function applyNext(query: Query, known: readonly Migration[], place: string): Promise<number | undefined> {
  await query('select pg_advisory_xact_lock($1)', [LOCK_KEY]);
  const done = await readRecorded(query);
  if (done.length === 0) await startRecording(query, place);
  checkRecorded(done, known, place);
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

/** What was applied; nothing where there is no schema. Asks whether the table is there: an error would end the transaction. */
async function readRecorded(query: Query): Promise<readonly Recorded[]> {
  const [table] = await query<{ exists: boolean }>(`select to_regclass('plugset.migrations') is not null as exists`);
  if (table?.exists !== true) return [];
  return query<Recorded>('select version, name, checksum from plugset.migrations order by version');
}

async function startRecording(query: Query, place: string): Promise<void> {
  const [row] = await query<{ server: number }>(`select current_setting('server_version_num')::int as server`);
  if ((row?.server ?? 0) < OLDEST_SERVER)
    throw terminal('StoreUnavailable', `${place}: plugset needs Postgres 14 or newer`);
  // Not `if not exists`: that asks for the right to make schemas even where this one was made for us.
  const [schema] = await query<{ exists: boolean }>(`select to_regnamespace('plugset') is not null as exists`);
  if (schema?.exists !== true) await query('create schema plugset');
  await query(`
    create table if not exists plugset.migrations (
      version int primary key,
      name text not null,
      checksum text not null,
      applied_at timestamptz not null default now()
    );
    comment on table plugset.migrations is 'Which changes of this schema were made; written by plugset.';
    comment on column plugset.migrations.version is 'Number of the change.';
    comment on column plugset.migrations.name is 'What it is about.';
    comment on column plugset.migrations.checksum is 'Digest of its text; a build whose text differs refuses to start.';
    comment on column plugset.migrations.applied_at is 'When it was made.';
  `);
}

function noSchema(place: string): ReconcileError {
  return terminal(
    'StoreUnavailable',
    `${place} holds nothing of plugset yet (no tables in a schema plugset): if it is the one you mean, \`plugset run\`, or \`plugset apply\` where plugset keeps the declarations, makes them`,
  );
}

function checkRecorded(done: readonly Recorded[], known: readonly Migration[], place: string): void {
  for (const [index, recorded] of done.entries()) {
    const mine = known[index];
    if (mine === undefined) {
      throw terminal(
        'StoreUnavailable',
        `${place} was migrated by a newer plugset (schema ${done.length}, this one knows ${known.length}): upgrade this binary`,
      );
    }
    if (recorded.version !== mine.version || recorded.checksum !== mine.checksum) {
      throw terminal(
        'StoreUnavailable',
        `${place}: migration ${recorded.version} (${recorded.name}) of its schema plugset was applied with another text than this plugset has; run the plugset that applied it`,
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
