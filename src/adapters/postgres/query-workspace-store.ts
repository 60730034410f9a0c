import { classifyError, terminal, transient, type ReconcileError } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import type { WorkspaceKey } from '../../domain/name.ts';
import type { FleetPolicy, Requests, Workspace, WorkspaceManifest } from '../../domain/workspace.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Loaded, StatusWrite, WatchCause, WorkspaceStore } from '../../ports/workspace-store.ts';
import { DECLARATION_TABLES, DeclarationRecords, newerRow } from './declaration-records.ts';
import { QUERY_SETTING, type PlatformQueries } from './platform-columns.ts';
import { declarationFrom } from './platform-declaration.ts';
import { PlatformFollower } from './platform-follower.ts';
import type { PostgresDatabase } from './postgres-database.ts';
import { readPlatform, type Difference, type Missing, type PlatformTotals } from './read-platform.ts';
import { WorkspaceRows, type NewerRow } from './workspace-rows.ts';

export interface QueryWorkspaceStoreOptions {
  /** Shared with other users of the database; whoever opened it closes it, after the store. */
  readonly database: PostgresDatabase;
  readonly queries: PlatformQueries;
  /**
   * The turn of this process, while it leads: it records what it reads. Whoever has none computes what the leader will
   * record and leaves that to it, so that a command under a wrong configuration deletes nothing.
   */
  readonly turn: () => Fence | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What applies where a row says nothing; asked each time, for it can be configured anew. */
  readonly defaultPolicy: () => FleetPolicy;
  /** Between two reads, give or take a fifth. Default 10 s. */
  readonly intervalMs?: number;
  /** Channel on which the platform notifies that something has changed. */
  readonly channel?: string | undefined;
  /** No workspace, or no plugin, at all counts even where there were several. Default: it is taken for a mistake. */
  readonly allowEmpty?: boolean;
  /** How long a row must be missing, over two reads, before it counts as deleted. Default: half of `intervalMs`. */
  readonly vanishGraceMs?: number;
  /** As in {@link WorkspaceRows}. */
  readonly pollMs?: number;
  readonly fullScanMs?: number;
  readonly heartbeatMs?: number;
}

/**
 * Workspaces that stand in a platform's own tables, read by two queries and never written. A read is compared with
 * `plugset.declarations` inside the database, so that only what differs travels; from there on a declaration is a row like
 * any other. A read that fails, or that cannot be the whole, leaves the last good one standing.
 */
export class QueryWorkspaceStore implements WorkspaceStore {
  readonly #options: QueryWorkspaceStoreOptions;
  readonly #intervalMs: number;
  readonly #vanishGraceMs: number;
  readonly #rows: WorkspaceRows;
  readonly #records: DeclarationRecords;

  /** When the last good read began, on the monotonic clock. */
  #readAtMs: number | undefined;
  #reading: Promise<void> = Promise.resolve();
  #watches = 0;
  /** What was read and is not recorded, because this process does not lead. */
  #newer: ReadonlyMap<WorkspaceKey, NewerRow> = new Map();
  /** Monotonic time since when each recorded key has been missing. */
  readonly #missingSince = new Map<WorkspaceKey, number>();
  /** Why looks fail, as it was said; until one succeeds. */
  #failure: string | undefined;
  /** What is odd about the rows, as it was said. */
  #warned: readonly string[] = [];

  constructor(options: QueryWorkspaceStoreOptions) {
    const { intervalMs = 10_000 } = options;
    this.#options = options;
    this.#intervalMs = intervalMs;
    this.#vanishGraceMs = options.vanishGraceMs ?? intervalMs / 2;
    this.#rows = new WorkspaceRows({ ...options, tables: DECLARATION_TABLES });
    this.#records = new DeclarationRecords(options.database);
  }

  get outdated(): string | undefined {
    return this.#failure;
  }

  async list(signal: AbortSignal): Promise<readonly WorkspaceKey[]> {
    await this.#fresh(signal);
    return [...new Set([...(await this.#rows.list(signal)), ...this.#newer.keys()])];
  }

  async get(key: WorkspaceKey, signal: AbortSignal): Promise<Loaded> {
    await this.#fresh(signal);
    return this.#rows.get(key, signal, this.#newer.get(key));
  }

  async declarations(
    keys: readonly WorkspaceKey[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<WorkspaceKey, Workspace | undefined>> {
    await this.#fresh(signal);
    return this.#rows.declarations(keys, signal, this.#newer);
  }

  async watch(onKey: (key: WorkspaceKey, cause: WatchCause) => void, signal: AbortSignal): Promise<void> {
    const stop = AbortSignal.any([signal, this.#rows.closed]);
    this.#watches += 1;
    try {
      // First, so that a first read of a whole fleet is not told key by key: whoever begins to watch lists everything.
      await this.#look(stop);
      await this.#rows.watch(onKey, signal);
    } catch (error) {
      this.#watches -= 1;
      throw error;
    }
    const { database, clock, logger, channel, heartbeatMs = 15_000 } = this.#options;
    const look = (running: AbortSignal): Promise<void> => this.#look(running);
    const intervalMs = this.#intervalMs;
    const follower = new PlatformFollower({ database, clock, logger, intervalMs, channel, heartbeatMs, look });
    this.#rows.keep(follower.run(stop).finally(() => (this.#watches -= 1)));
  }

  writeStatus(write: StatusWrite, signal: AbortSignal): Promise<void> {
    return this.#rows.writeStatus(write, signal);
  }

  finishDeletion(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<void> {
    return this.#rows.finishDeletion(key, fence, signal);
  }

  async apply(manifest: WorkspaceManifest): Promise<never> {
    throw readOnly(manifest.metadata.name);
  }

  async delete(key: WorkspaceKey): Promise<never> {
    throw readOnly(key);
  }

  async annotate(key: WorkspaceKey, requests: Requests, signal: AbortSignal): Promise<boolean> {
    if (await this.#records.ask(key, requests, signal)) return true;
    await this.#fresh(signal);
    if (!this.#newer.has(key)) return false;
    throw transient(
      'StoreUnavailable',
      `${key} is not recorded yet: the daemon does that with its next read; ask again then`,
    );
  }

  async close(): Promise<void> {
    await this.#rows.close();
    await this.#reading;
  }

  /** The records as they are now, or, where nobody follows the platform, as they are after a read of it. */
  async #fresh(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { clock, turn } = this.#options;
    const isDue = (): boolean =>
      this.#readAtMs === undefined || (this.#watches === 0 && clock.monotonic() - this.#readAtMs >= this.#intervalMs);
    if (!isDue()) return;
    await this.#read(signal, isDue);
    if (this.#watches > 0 || this.#missingSince.size === 0 || turn() === undefined) return;
    // Nobody comes back to what is missing, so the second read that it takes is made here.
    await clock.sleep(this.#vanishGraceMs + 1, signal);
    await this.#read(signal);
  }

  /** A read whose failure is said once, and leaves everything as it was. */
  async #look(signal: AbortSignal): Promise<void> {
    try {
      await this.#read(signal);
    } catch (error) {
      const failure = classifyError(error);
      if (failure.class === 'aborted' || signal.aborted || failure.message === this.#failure) return;
      this.#options.logger.error(`${failure.message}; what was read last stands`, { error });
      this.#failure = failure.message;
    }
  }

  /** One read after the other; one that is no longer due when its turn comes is left out. */
  #read(signal: AbortSignal, isDue: () => boolean = () => true): Promise<void> {
    const read = this.#reading.then(() => (isDue() ? this.#readNow(signal) : undefined));
    this.#reading = read.catch(() => undefined);
    return read;
  }

  async #readNow(signal: AbortSignal): Promise<void> {
    const { database, queries, clock, logger, turn, allowEmpty = false } = this.#options;
    const startedMs = clock.monotonic();
    const fence = turn();
    let changes = 0;
    const newer = new Map<WorkspaceKey, NewerRow>();
    const missing: Missing[] = [];
    const onBatch = async (batch: readonly Difference[]): Promise<void> => {
      missing.push(...batch.filter((one) => one.kind === 'missing'));
      const changed = batch.filter((one) => one.kind === 'changed');
      changes += changed.length;
      const read = changed.map((one) => ({ ...one, declaration: declarationFrom(one) }));
      if (fence !== undefined) await this.#records.write(read, fence, signal);
      else for (const one of read) newer.set(one.key, newerRow(one, clock.now()));
    };
    const totals = await readPlatform({ database, queries, allowEmpty }, onBatch, signal);
    if (fence !== undefined) await this.#conclude(missing, totals, fence, signal);
    this.#newer = newer;
    this.#readAtMs = startedMs;
    const { workspaces } = totals;
    logger.debug('read the platform', {
      workspaces,
      changes,
      missing: missing.length,
      ms: clock.monotonic() - startedMs,
    });
    this.#tell(totals);
  }

  /**
   * Takes those for deleted that have been missing long enough: a platform may write its rows anew, in two transactions.
   * None of them while there are rows that nobody can be told by: they may be the ones.
   */
  async #conclude(
    missing: readonly Missing[],
    totals: PlatformTotals,
    fence: Fence,
    signal: AbortSignal,
  ): Promise<void> {
    const nowMs = this.#options.clock.monotonic();
    const keys = new Set(totals.nameless > 0 ? [] : missing.map(({ key }) => key));
    for (const key of this.#missingSince.keys()) if (!keys.has(key)) this.#missingSince.delete(key);
    for (const key of keys) if (!this.#missingSince.has(key)) this.#missingSince.set(key, nowMs);
    const isGone = (sinceMs: number | undefined): boolean =>
      sinceMs !== undefined && nowMs - sinceMs >= this.#vanishGraceMs;
    const gone = missing.filter(({ key }) => isGone(this.#missingSince.get(key)));
    if (gone.length === 0) return;
    await this.#records.bury(gone, fence, signal);
    for (const { key } of gone) this.#missingSince.delete(key);
    const workspaces = gone.slice(0, 20).map(({ key }) => key);
    this.#options.logger.info('workspaces are gone from the platform', { count: gone.length, workspaces });
  }

  /** What there is to say of a good read, once. */
  #tell(totals: PlatformTotals): void {
    const { logger } = this.#options;
    if (this.#failure !== undefined) logger.info('the tables of the platform can be read again');
    this.#failure = undefined;
    const odd = oddities(totals);
    for (const line of odd) if (!this.#warned.includes(line)) logger.warn(line);
    this.#warned = odd;
  }
}

function oddities({ nameless, unread }: PlatformTotals): readonly string[] {
  return [
    ...(nameless === 0
      ? []
      : [
          `${nameless} rows of ${QUERY_SETTING}.workspaces have neither a usable name nor a usable id: they are passed over, and until that is mended no workspace counts as deleted`,
        ]),
    ...(unread === 0
      ? []
      : [`${unread} workspaces in plugset.workspaces are not looked at: ${QUERY_SETTING} names other tables`]),
  ];
}

function readOnly(name: string): ReconcileError {
  return terminal(
    'InvalidSpec',
    `${name} cannot be changed here: workspaces are read from your platform's own tables (${QUERY_SETTING}); change it in your platform`,
  );
}
