import { readFile } from 'node:fs/promises';

import type { Config, StoreConfig } from '../config.ts';
import { ADVICE } from '../domain/advice.ts';
import { FleetGuard } from '../reconcile/fleet-guard.ts';
import type { Clock } from '../ports/clock.ts';
import type { Logger } from '../ports/logger.ts';
import type { OpenedStore } from '../stores.ts';
import { ok, warn, fail, type Check, type Seen } from './check.ts';
import type { Declarations } from './declarations.ts';
import { keptIn } from './files.ts';

export interface StoreUnderTest {
  readonly config: Config;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Rejects with what is wrong with it. */
  readonly opened: Promise<OpenedStore>;
  readonly declarations: Promise<Declarations>;
}

const CONNECT_TIMEOUT_MS = 5_000;
/** Times that people read, and signatures that expire within minutes, stand this. */
const SKEW_MS = 5_000;
const LEAST_WATCHES = 8_192;
const LEAST_INSTANCES = 128;

/** Whether the store can be reached and used, and who works on it. */
export function storeChecks(store: StoreUnderTest): readonly Check[] {
  const { config } = store;
  const place = config.store;
  return [
    ...placeChecks(place, store),
    { name: 'store', look: () => opens(store) },
    { name: 'workspaces', look: () => workspaces(store) },
    { name: 'leader', look: (signal) => leader(store, signal) },
    { name: 'pause', look: (signal) => pause(store, signal) },
  ];
}

function placeChecks(place: StoreConfig, store: StoreUnderTest): readonly Check[] {
  switch (place.kind) {
    case 'postgres':
      return [{ name: 'database', look: (signal) => databaseLook(place, store, signal) }];
    case 'files':
      return [
        { name: 'state directory', look: () => keptIn(store.config.stateDir, 'store.stateDirectory') },
        { name: 'file events', look: () => inotify() },
      ];
    case 'kubernetes':
      return [];
  }
}

interface ServerRow {
  readonly version: string;
  readonly now_ms: number;
  readonly is_standby: boolean;
}

const SERVER = `select current_setting('server_version') as version, pg_is_in_recovery() as is_standby,
  (extract(epoch from clock_timestamp()) * 1000)::float8 as now_ms`;

async function databaseLook(
  { url, origin }: Extract<StoreConfig, { kind: 'postgres' }>,
  { clock, logger }: StoreUnderTest,
  signal: AbortSignal,
): Promise<readonly Seen[]> {
  const { PostgresDatabase } = await import('../adapters/postgres/postgres-database.ts');
  const database = new PostgresDatabase({
    connectionString: url,
    origin,
    logger,
    poolSize: 1,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    statementTimeoutMs: CONNECT_TIMEOUT_MS,
    applicationName: 'plugset-doctor',
  });
  try {
    await database.query('select 1', [], signal);
    const startedMs = clock.monotonic();
    const before = clock.now();
    const [row] = await database.query<ServerRow>(SERVER, [], signal);
    const tookMs = clock.monotonic() - startedMs;
    if (row === undefined) return [fail('it answered nothing', 'Check that this is a Postgres.')];
    const answered = `${database.place}: Postgres ${row.version}, answers in ${Math.max(1, Math.round(tookMs))} ms`;
    const standby = fail(`${answered}; a standby, which takes no writes`, 'Name the primary: a leader writes status.');
    return [row.is_standby ? standby : ok(answered), skew(row.now_ms - (before + tookMs / 2))];
  } finally {
    await database.close();
  }
}

function skew(skewMs: number): Seen {
  const seconds = `${Math.abs(skewMs / 1000).toFixed(1)} s ${skewMs > 0 ? 'behind' : 'ahead of'} the database's`;
  if (Math.abs(skewMs) <= SKEW_MS) return ok(`this clock and that of the database agree within ${SKEW_MS / 1000} s`);
  return warn(`this machine's clock is ${seconds}`, 'Let NTP set both: ages and signed notifications go by them.');
}

async function opens({ opened, declarations, config: { store: place } }: StoreUnderTest): Promise<Seen> {
  await declarations;
  const { store } = await opened;
  if (store.outdated !== undefined)
    return fail(store.outdated, 'Look whether that is the right directory, mounted and checked out.');
  const [unread] = store.unread?.() ?? [];
  if (unread !== undefined)
    return fail(`namespace ${unread[0]} cannot be read, the others can: ${unread[1]}`, ADVICE.AccessDenied);
  switch (place.kind) {
    case 'postgres':
      return ok('its schema is the one of this version');
    case 'files':
      return ok(`${place.dir} (${place.origin}) can be read`);
    case 'kubernetes':
      return ok('its custom resources can be read');
  }
}

async function workspaces({ declarations }: StoreUnderTest): Promise<readonly Seen[]> {
  const known = await settled(declarations);
  if (known === undefined) return [];
  const { total, read, unusable, stalled } = known;
  if (total === 0) return [warn('none is declared', 'Declare one: `plugset apply -f FILE`, SQL, or a file.')];
  const of = read < total ? ` (of the ${read} that were read)` : '';
  return [
    ok(`${total} declared`),
    ...(unusable.length === 0
      ? []
      : [
          warn(
            `${unusable.length} cannot be used${of}: ${some(unusable)}`,
            `Run \`plugset explain ${unusable[0]}\`: it names file and line.`,
          ),
        ]),
    ...(stalled.length === 0
      ? []
      : [
          warn(
            `${stalled.length} wait for a person${of}: ${some(stalled)}`,
            `Run \`plugset explain ${stalled[0]}\`: it says what to do.`,
          ),
        ]),
  ];
}

async function leader({ opened }: StoreUnderTest, signal: AbortSignal): Promise<readonly Seen[]> {
  const store = await settled(opened);
  if (store === undefined) return [];
  const start = 'Start `plugset run` on this store; until then nobody looks at any target.';
  const holder = await store.leadership.lastHolder(signal);
  if (holder === undefined) return [warn('no controller has ever run on this store', start)];
  return [
    holder.isLeading
      ? ok(`${holder.name} leads since ${holder.since}`)
      : warn(`nobody leads since ${holder.until}, when ${holder.name} ended`, start),
  ];
}

async function pause({ opened, config, clock }: StoreUnderTest, signal: AbortSignal): Promise<readonly Seen[]> {
  const store = await settled(opened);
  if (store === undefined) return [];
  const why = await new FleetGuard({ state: store.state, clock, guards: config.guards }).paused(signal);
  return why === undefined ? [] : [warn(why, 'Run `plugset resume` when plugset should go on.')];
}

async function inotify(): Promise<readonly Seen[]> {
  const read = async (name: string): Promise<number | undefined> => {
    const text = await readFile(`/proc/sys/fs/inotify/${name}`, 'utf8').catch(() => '');
    return text === '' ? undefined : Number(text);
  };
  const [watches, instances] = await Promise.all([read('max_user_watches'), read('max_user_instances')]);
  // Elsewhere than on Linux events come another way.
  if (watches === undefined || instances === undefined) return [];
  if (watches >= LEAST_WATCHES && instances >= LEAST_INSTANCES)
    return [ok(`inotify: ${watches} watches, ${instances} instances`)];
  const needed = `fs.inotify.max_user_watches=${LEAST_WATCHES} fs.inotify.max_user_instances=${LEAST_INSTANCES}`;
  const seen = `inotify: only ${watches} watches and ${instances} instances; edits may be seen after 30 s only`;
  return [warn(seen, `Run sysctl -w ${needed}.`)];
}

/** What was wrong is told once, by the check whose business it is. */
async function settled<T>(work: Promise<T>): Promise<T | undefined> {
  return work.catch(() => undefined);
}

function some(keys: readonly string[]): string {
  return `${keys.slice(0, 3).join(', ')}${keys.length > 3 ? ', …' : ''}`;
}
