import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { DirectoryTargetProvider } from './adapters/directory/directory-target-provider.ts';
import { DockerTargetProvider } from './adapters/docker/docker-target-provider.ts';
import { SystemClock } from './adapters/system/clock.ts';
import { DiskScratchSpace } from './adapters/system/disk-scratch-space.ts';
import { ConfigError, type Config } from './config.ts';
import { campaign } from './controller/leading.ts';
import { classifyError, type ReconcileError } from './domain/errors.ts';
import type { WorkspaceKey } from './domain/name.ts';
import type { WorkspaceStatus } from './domain/status.ts';
import { ArtifactCache } from './plugins/artifact-cache.ts';
import { ScriptedPluginHost } from './plugins/plugin-host.ts';
import type { Clock } from './ports/clock.ts';
import type { ControllerState } from './ports/controller-state.ts';
import type { Leadership } from './ports/leadership.ts';
import type { Logger } from './ports/logger.ts';
import { mapAtOnce } from './ports/map-at-once.ts';
import type { Loaded, WorkspaceStore } from './ports/workspace-store.ts';
import type { TargetProvider } from './ports/workspace-target.ts';
import type { Preview } from './reconcile/reconciler.ts';
import { createSources } from './sources.ts';
import { VERSION } from './version.ts';
import { createWorkshop, introduceAll, type PassPorts } from './workshop.ts';
import { Turn } from './turn.ts';

/** Where workspaces are declared, and what else that place keeps. */
export interface OpenedStore {
  readonly store: WorkspaceStore;
  readonly state: ControllerState;
  readonly leadership: Leadership;
  /** Whom fences name; `undefined` where nothing was ever written. */
  authority(signal: AbortSignal): Promise<string | undefined>;
  /** What opening it has made, for people. */
  readonly notice?: string;
  close(): Promise<void>;
}

export interface OnceResult {
  readonly key: WorkspaceKey;
  readonly status: WorkspaceStatus | undefined;
  readonly error: ReconcileError | undefined;
}

export interface RunEvents {
  onListening?(url: string): void;
  onStandby?(holder: string): void;
  onLeading?(): void;
}

export interface OnceEvents {
  onStandby?(holder: string): void;
  /** The lease is held, and these are to have a pass. */
  onLeading?(keys: readonly WorkspaceKey[]): void;
  /** The pass over it has begun. */
  onBegin?(key: WorkspaceKey): void;
  onResult?(result: OnceResult): void;
}

/** A plan, what the store says of a workspace that has none, or why it cannot be planned. */
export type PreviewResult = Preview | Loaded | { readonly kind: 'failed'; readonly error: ReconcileError };

export type OnPreview = (key: WorkspaceKey, result: PreviewResult) => void;

/** Everything a command that looks at targets needs. */
export interface App {
  readonly store: WorkspaceStore;
  /** The daemon: campaigns, works, drains. Resolves when `signal` aborted and everything is down. */
  run(signal: AbortSignal, events?: RunEvents): Promise<void>;
  /** One pass over everything declared (or `keys`) under the lease, then the results. */
  once(
    keys: readonly WorkspaceKey[] | undefined,
    signal: AbortSignal,
    events?: OnceEvents,
  ): Promise<readonly OnceResult[]>;
  /**
   * Looks and plans, changes nothing, needs no lease; each source is asked once for all. `onPreview` is called as each
   * ends: with what the store says instead of a plan for what is never worked on, with the error of what cannot be planned.
   */
  preview(keys: readonly WorkspaceKey[], signal: AbortSignal, onPreview: OnPreview): Promise<void>;
  close(): Promise<void>;
}

/**
 * `controller` (run, once) keeps a store's records, such as its schema and which file vanished; `author` (apply) makes a
 * store that was never used; `client` (every other command) only reads what is there.
 */
export type StoreRole = 'controller' | 'author' | 'client';

const SCHEMA_MODES = { controller: 'migrate', author: 'create', client: 'check' } as const;

/** What differs from what the configuration says. */
export interface AppParts {
  /** Default: controller. */
  readonly role?: StoreRole;
  readonly clock?: Clock;
  readonly providers?: readonly TargetProvider[];
}

/** Only the store: enough for status, apply, delete, reconcile; loads no engine and no source. */
export async function openStore(
  config: Config,
  logger: Logger,
  clock: Clock = new SystemClock(),
  role: StoreRole = 'client',
): Promise<OpenedStore> {
  return config.store.kind === 'postgres'
    ? openPostgres(config, config.store, role, logger, clock)
    : openFiles(config, config.store, role, logger, clock);
}

async function openPostgres(
  config: Config,
  { url: connectionString, origin }: Extract<Config['store'], { kind: 'postgres' }>,
  role: StoreRole,
  logger: Logger,
  clock: Clock,
): Promise<OpenedStore> {
  const { prepareSchema } = await import('./adapters/postgres/migrate.ts');
  const { PostgresDatabase } = await import('./adapters/postgres/postgres-database.ts');
  const { PostgresWorkspaceStore } = await import('./adapters/postgres/postgres-workspace-store.ts');
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
  const store = new PostgresWorkspaceStore({ database, clock, logger, defaultPolicy: config.policy });
  const close = async (): Promise<void> => {
    await store.close();
    await Promise.all([database.close(), leaseDatabase.close()]);
  };
  let applied: readonly number[];
  try {
    applied = await prepareSchema(database, SCHEMA_MODES[role], new AbortController().signal);
  } catch (error) {
    await close();
    throw error;
  }
  const notice = applied.length === 0 ? undefined : `made the schema plugset in ${database.place}`;
  if (applied.length > 0) logger.info('migrated the schema plugset', { versions: applied, database: database.place });
  const leadership = new PostgresLeadership({
    database: leaseDatabase,
    clock,
    logger,
    leaseMs: config.leaseMs,
    ...(config.authority === undefined ? {} : { authority: config.authority }),
  });
  const authority = (signal: AbortSignal): Promise<string | undefined> => leadership.authority(signal);
  return {
    store,
    state: new PostgresControllerState({ database }),
    leadership,
    authority,
    ...(notice === undefined ? {} : { notice }),
    close,
  };
}

async function openFiles(
  config: Config,
  { dir: directory, origin }: Extract<Config['store'], { kind: 'files' }>,
  role: StoreRole,
  logger: Logger,
  clock: Clock,
): Promise<OpenedStore> {
  const { FilesWorkspaceStore } = await import('./adapters/files/files-workspace-store.ts');
  const { FilesControllerState } = await import('./adapters/files/files-controller-state.ts');
  const { FilesLeadership } = await import('./adapters/files/files-leadership.ts');
  const { authority, stateDir: stateDirectory } = config;
  const store = new FilesWorkspaceStore({
    directory,
    origin,
    stateDirectory,
    role: role === 'controller' ? 'controller' : 'client',
    defaultPolicy: config.policy,
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

export async function openApp(config: Config, logger: Logger, parts: AppParts = {}): Promise<App> {
  const clock = parts.clock ?? new SystemClock();
  const opened = await openStore(config, logger, clock, parts.role ?? 'controller');
  try {
    return await assemble(config, opened, logger, clock, parts);
  } catch (error) {
    await opened.close();
    throw error;
  }
}

async function assemble(
  config: Config,
  opened: OpenedStore,
  logger: Logger,
  clock: Clock,
  parts: AppParts,
): Promise<App> {
  const { PrometheusMetrics } = await import('./adapters/telemetry/prometheus-metrics.ts');
  const metrics = new PrometheusMetrics({ version: VERSION, perWorkspace: config.workspaceMetrics });
  await mkdir(config.cacheDir, { recursive: true, mode: 0o700 });
  const scratch = await DiskScratchSpace.open(join(config.cacheDir, 'scratch'), clock);
  const registry = createSources(config, clock, scratch);
  const artifacts = await ArtifactCache.open({
    dir: config.cacheDir,
    scratch,
    fetch: (source, revision, signal) => registry.sourceOf(source.ref.scheme).fetch(source, revision, signal),
    maxBytes: config.cacheBytes,
    clock,
    logger,
    metrics,
  });
  const providers = parts.providers ?? [
    new DirectoryTargetProvider({ roots: config.roots, path: config.path, clock }),
    new DockerTargetProvider({ engines: config.engines, clock, logger, metrics }),
  ];
  const ports: PassPorts = {
    store: opened.store,
    providers,
    host: new ScriptedPluginHost(),
    registry,
    artifacts,
    profiles: config.profiles,
    clock,
    logger,
    metrics,
  };
  return new PlugsetApp(
    config,
    opened,
    ports,
    () => metrics.expose(),
    async () => {
      await artifacts.close();
      await Promise.all(providers.map((provider) => provider.close()));
      await opened.close();
    },
  );
}

/** How many workspaces `once` and `plan` work on at the same time. */
const ONCE_AT_ONCE = 8;

class PlugsetApp implements App {
  readonly store: WorkspaceStore;
  readonly #config: Config;
  readonly #opened: OpenedStore;
  readonly #ports: PassPorts;
  readonly #expose: () => Promise<{ readonly contentType: string; readonly body: string }>;
  readonly #close: () => Promise<void>;

  constructor(
    config: Config,
    opened: OpenedStore,
    ports: PassPorts,
    expose: () => Promise<{ readonly contentType: string; readonly body: string }>,
    close: () => Promise<void>,
  ) {
    this.store = opened.store;
    this.#config = config;
    this.#opened = opened;
    this.#ports = ports;
    this.#expose = expose;
    this.#close = close;
  }

  async run(signal: AbortSignal, events: RunEvents = {}): Promise<void> {
    const { clock, logger, metrics } = this.#ports;
    let turn: Turn | undefined;
    const server = await this.#serveTelemetry(() => turn);
    events.onListening?.(`http://${server.host}:${server.port}`);
    try {
      await campaign(
        {
          leadership: this.#announced(events),
          lead: async (term, stop) => {
            turn = new Turn(this.#ports, this.#config, term);
            await turn.run(stop).finally(() => (turn = undefined));
          },
          clock,
          logger,
          metrics,
        },
        signal,
      );
    } finally {
      await server.close();
    }
  }

  /** The leadership of the store, which also tells whoever started us. */
  #announced(events: RunEvents): Pick<Leadership, 'acquire'> {
    return {
      acquire: async (signal, onWaiting) => {
        const term = await this.#opened.leadership.acquire(signal, (holder) => {
          onWaiting?.(holder);
          events.onStandby?.(holder);
        });
        events.onLeading?.();
        return term;
      },
    };
  }

  async #serveTelemetry(turn: () => Turn | undefined): Promise<{ host: string; port: number; close(): Promise<void> }> {
    const { TelemetryServer } = await import('./adapters/telemetry/http-server.ts');
    const { clock, logger } = this.#ports;
    const server = new TelemetryServer({
      ...this.#config.listen,
      metrics: this.#expose,
      liveness: { loops: () => turn()?.problem() },
      // A standby has no turn and is ready: it is of use the moment the leader goes.
      readiness: { loops: () => turn()?.problem(), store: () => turn()?.unready() },
      clock,
      logger,
    });
    try {
      return { ...(await server.start()), close: () => server.close() };
    } catch (error) {
      const { message } = error as Error;
      const advice = 'if another plugset runs here, give this one --listen HOST:PORT';
      throw new ConfigError(`${message}; ${advice}`, { cause: error });
    }
  }

  async once(
    keys: readonly WorkspaceKey[] | undefined,
    signal: AbortSignal,
    events: OnceEvents = {},
  ): Promise<readonly OnceResult[]> {
    const term = await this.#opened.leadership.acquire(signal, (holder) => events.onStandby?.(holder));
    const { revisions, reconciler } = createWorkshop(this.#ports, this.#config, () => undefined);
    const over = AbortSignal.any([signal, term.signal]);
    const results: OnceResult[] = [];
    const pass = async (key: WorkspaceKey): Promise<OnceResult> => {
      try {
        const { failure } = await reconciler.reconcile(key, term.fence, over);
        return { key, status: await this.#statusOf(key, over), error: failure };
      } catch (error) {
        over.throwIfAborted();
        return { key, status: await this.#statusOf(key, over), error: classifyError(error) };
      }
    };
    try {
      const all = await this.store.list(over);
      events.onLeading?.(keys ?? all);
      await introduceAll(all, reconciler, over);
      await mapAtOnce(ONCE_AT_ONCE, keys ?? all, async (key) => {
        events.onBegin?.(key);
        const result = await pass(key);
        results.push(result);
        events.onResult?.(result);
      });
      return results;
    } finally {
      revisions.stop();
      await term.release();
    }
  }

  async #statusOf(key: WorkspaceKey, signal: AbortSignal): Promise<WorkspaceStatus | undefined> {
    const loaded = await this.store.get(key, signal);
    return loaded.kind === 'absent' ? undefined : loaded.status;
  }

  async preview(keys: readonly WorkspaceKey[], signal: AbortSignal, onPreview: OnPreview): Promise<void> {
    const { revisions, reconciler } = createWorkshop(this.#ports, this.#config, () => undefined);
    try {
      await introduceAll(await this.store.list(signal), reconciler, signal);
      const authority = await this.#opened.authority(signal);
      await mapAtOnce(ONCE_AT_ONCE, keys, async (key) => {
        try {
          onPreview(key, await reconciler.preview(key, authority, signal));
        } catch (error) {
          signal.throwIfAborted();
          onPreview(key, { kind: 'failed', error: classifyError(error) });
        }
      });
    } finally {
      revisions.stop();
    }
  }

  close(): Promise<void> {
    return this.#close();
  }
}
