import { hostname } from 'node:os';

import { SystemClock } from './adapters/system/clock.ts';
import type { PostgresLeadership } from './adapters/postgres/postgres-leadership.ts';
import type { QueryWorkspaceStoreOptions } from './adapters/postgres/query-workspace-store.ts';
import type { Config } from './config.ts';
import type { FleetPolicy } from './domain/workspace.ts';
import type { Kube } from './kube.ts';
import type { Clock } from './ports/clock.ts';
import type { ControllerState } from './ports/controller-state.ts';
import type { Fence } from './domain/fence.ts';
import type { Leadership, LeaseHolder, Term } from './ports/leadership.ts';
import type { Logger } from './ports/logger.ts';
import type { Metrics, ReflectorState } from './ports/metrics.ts';
import type { Notifier } from './ports/notifier.ts';
import type { WorkspaceStore } from './ports/workspace-store.ts';

/** Where workspaces are declared, and what else that place keeps. */
export interface OpenedStore {
  readonly store: WorkspaceStore;
  readonly state: ControllerState;
  readonly leadership: Leadership;
  /** Whom fences name; `undefined` where nothing was ever written. */
  authority(signal: AbortSignal): Promise<string | undefined>;
  /** While another process leads: reads beforehand what it takes to go on from there, as often as it is called. */
  standBy?(stop: AbortSignal): void;
  /** Why this process should be started again, as far as its store goes: for liveness. */
  problem?(): string | undefined;
  /** Of the copy that it answers from, if it does: for metrics. */
  reflectors?(): readonly ReflectorState[];
  /** Tells of workspaces where they are declared, if that place has such a thing; told nothing more, it is closed first. */
  readonly notifier?: Notifier & { close(): Promise<void> };
  /** What opening it has made, for people. */
  readonly notice?: string;
  close(): Promise<void>;
}

/**
 * `controller` (run, once) keeps a store's records, such as its schema and which file vanished; `author` (apply) makes a
 * store that was never used; `client` (every other command) only reads what is there.
 */
export type StoreRole = 'controller' | 'author' | 'client';

const SCHEMA_MODES = { controller: 'migrate', author: 'create', client: 'check' } as const;

export interface StoreOptions {
  readonly role: StoreRole;
  /** The way to the cluster, if somebody else goes it too, and closes it. */
  readonly kube?: Kube | undefined;
  /** Whether the place where workspaces are declared is told what becomes of them; asked each time. Left out: no. */
  readonly tellsEvents?: () => boolean;
  /** Left out: nobody counts. */
  readonly metrics?: KubeMetrics | undefined;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** Ends the opening, which then rejects; what is open already goes on. */
  readonly signal?: AbortSignal;
  /** What workspaces get that say nothing themselves; left out: what the configuration says now. */
  readonly defaultPolicy?: () => FleetPolicy;
}

type KubeMetrics = Pick<
  Metrics,
  'kubeAsked' | 'kubeListed' | 'kubeWatchOpened' | 'kubeWatchEnded' | 'kubeMissed' | 'eventTold'
>;

type Opening = StoreOptions & Required<Omit<StoreOptions, 'kube' | 'metrics' | 'tellsEvents'>>;

/** Only the store: enough for status, apply, delete, reconcile; loads no engine and no source. */
export async function openStore(config: Config, options: StoreOptions): Promise<OpenedStore> {
  const never = new AbortController().signal;
  const whole = { clock: new SystemClock(), defaultPolicy: () => config.policy, signal: never, ...options };
  switch (config.store.kind) {
    case 'postgres':
      return openPostgres(config, config.store, whole);
    case 'files':
      return openFiles(config, config.store, whole);
    case 'kubernetes':
      return openKubernetes(config, config.store, whole);
  }
}

async function openPostgres(
  config: Config,
  { url: connectionString, origin, query }: PostgresStore,
  { role, logger, clock, defaultPolicy, signal }: Opening,
): Promise<OpenedStore> {
  const { prepareSchema } = await import('./adapters/postgres/migrate.ts');
  const { PostgresDatabase } = await import('./adapters/postgres/postgres-database.ts');
  const { PostgresControllerState } = await import('./adapters/postgres/postgres-controller-state.ts');
  const { PostgresLeadership } = await import('./adapters/postgres/postgres-leadership.ts');
  const database = new PostgresDatabase({ connectionString, origin, logger });
  // Renewals have a connection of their own: one that waits behind status writes comes late.
  const leaseDatabase = new PostgresDatabase({
    connectionString,
    origin,
    logger,
    poolSize: 1,
    applicationName: 'plugset-lease',
  });
  const leadership = new TurnKeeper(
    new PostgresLeadership({
      database: leaseDatabase,
      clock,
      logger,
      leaseMs: config.leaseMs,
      ...(config.authority === undefined ? {} : { authority: config.authority }),
    }),
  );
  const turn = (): Fence | undefined => leadership.turn;
  const store = await workspacesOf(query, { database, clock, logger, defaultPolicy, turn });
  const close = async (): Promise<void> => {
    await store.close();
    await Promise.all([database.close(), leaseDatabase.close()]);
  };
  let applied: readonly number[];
  try {
    applied = await prepareSchema(database, SCHEMA_MODES[role], signal);
  } catch (error) {
    await close();
    throw error;
  }
  const notice = applied.length === 0 ? undefined : `made the schema plugset in ${database.place}`;
  if (applied.length > 0) logger.info('migrated the schema plugset', { versions: applied, database: database.place });
  return {
    store,
    state: new PostgresControllerState({ database }),
    leadership,
    authority: (asking) => leadership.authority(asking),
    ...(notice === undefined ? {} : { notice }),
    close,
  };
}

type PostgresStore = Extract<Config['store'], { kind: 'postgres' }>;

/** Rows of plugset's own, or those of a platform. */
async function workspacesOf(
  query: PostgresStore['query'],
  { turn, ...options }: Omit<QueryWorkspaceStoreOptions, 'queries'>,
): Promise<WorkspaceStore> {
  if (query === undefined) {
    const { PostgresWorkspaceStore } = await import('./adapters/postgres/postgres-workspace-store.ts');
    return new PostgresWorkspaceStore(options);
  }
  const { QueryWorkspaceStore } = await import('./adapters/postgres/query-workspace-store.ts');
  return new QueryWorkspaceStore({ ...options, ...query, queries: query, turn });
}

/** Leadership that remembers whose turn it is, for a store that records what it reads under that fence. */
class TurnKeeper implements Leadership {
  readonly #leadership: PostgresLeadership;
  #term: Term | undefined;

  constructor(leadership: PostgresLeadership) {
    this.#leadership = leadership;
  }

  /** Of this process; `undefined` while it does not lead. */
  get turn(): Fence | undefined {
    return this.#term?.signal.aborted === false ? this.#term.fence : undefined;
  }

  async acquire(...args: Parameters<Leadership['acquire']>): Promise<Term> {
    return (this.#term = await this.#leadership.acquire(...args));
  }

  lastHolder(signal: AbortSignal): Promise<LeaseHolder | undefined> {
    return this.#leadership.lastHolder(signal);
  }

  authority(signal: AbortSignal): Promise<string | undefined> {
    return this.#leadership.authority(signal);
  }
}

async function openFiles(
  config: Config,
  { dir: directory, origin, allowEmpty = false }: Extract<Config['store'], { kind: 'files' }>,
  { role, logger, clock, defaultPolicy }: Opening,
): Promise<OpenedStore> {
  const { FilesWorkspaceStore } = await import('./adapters/files/files-workspace-store.ts');
  const { FilesControllerState } = await import('./adapters/files/files-controller-state.ts');
  const { FilesLeadership } = await import('./adapters/files/files-leadership.ts');
  const { authority, stateDir: stateDirectory } = config;
  const store = new FilesWorkspaceStore({
    directory,
    origin,
    allowEmpty,
    stateDirectory,
    role: role === 'controller' ? 'controller' : 'client',
    defaultPolicy,
    clock,
    logger,
  });
  const leadership = new FilesLeadership({
    stateDirectory,
    clock,
    logger,
    ...(authority === undefined ? {} : { authority }),
  });
  return {
    store,
    state: new FilesControllerState({ stateDirectory, clock }),
    leadership,
    authority: () => leadership.authority(),
    close: () => store.close(),
  };
}

type KubernetesStore = Extract<Config['store'], { kind: 'kubernetes' }>;

async function openKubernetes(
  config: Config,
  { namespaces, stateNamespace }: KubernetesStore,
  { role, logger, clock, defaultPolicy, signal, tellsEvents, metrics = UNCOUNTED, kube: shared }: Opening,
): Promise<OpenedStore> {
  const { KubeControllerState } = await import('./adapters/kube/kube-controller-state.ts');
  const { KubeLeadership } = await import('./adapters/kube/kube-leadership.ts');
  const { KubeWorkspaceStore } = await import('./adapters/kube/kube-workspace-store.ts');
  const { EventNotifier } = await import('./adapters/kube/event-notifier.ts');
  const kube = shared ?? new (await import('./kube.ts')).Kube({ config: config.kubernetes, clock, metrics });
  const { client } = kube;
  const closeOwn = (): void => {
    if (shared === undefined) kube.close();
  };
  const namespace =
    stateNamespace ??
    (await stateNamespaceOf(kube, role, signal).catch((error: unknown) => {
      closeOwn();
      throw error;
    }));
  const state = new KubeControllerState({ client, namespace });
  const { authority, leaseMs } = config;
  const leadership = new KubeLeadership({
    client: kube.leaseClient,
    namespace,
    state,
    clock,
    logger,
    ...(authority === undefined ? {} : { authority }),
    leaseMs,
  });
  const store = new KubeWorkspaceStore({ client, namespaces, state, logger, metrics, defaultPolicy });
  const close = async (): Promise<void> => {
    await store.close();
    closeOwn();
  };
  try {
    if (role === 'controller') await store.probe(signal);
  } catch (error) {
    await close();
    throw error;
  }
  const notifier = new EventNotifier({
    client,
    uidOf: (key) => store.uidOf(key),
    isWanted: () => tellsEvents?.() ?? false,
    instance: hostname(),
    clock,
    logger,
    metrics,
  });
  return {
    store,
    state,
    leadership,
    notifier,
    standBy: (stop) => void store.sync(stop).catch(() => undefined), // the log has it
    authority: (asking) => leadership.authority(asking),
    problem: () => store.problem(),
    reflectors: () => store.states(),
    close,
  };
}

/** A controller keeps it at home; everybody else wants the place that the controller looks at. */
async function stateNamespaceOf(kube: Kube, role: StoreRole, signal: AbortSignal): Promise<string> {
  const home = await kube.namespace(signal);
  if (role === 'controller') return home;
  const { findStateNamespace } = await import('./adapters/kube/state-namespace.ts');
  return findStateNamespace(kube.client, home, signal);
}

const UNCOUNTED: KubeMetrics = {
  kubeAsked: () => undefined,
  kubeListed: () => undefined,
  kubeWatchOpened: () => undefined,
  kubeWatchEnded: () => undefined,
  kubeMissed: () => undefined,
  eventTold: () => undefined,
};
