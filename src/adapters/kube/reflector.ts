import { classifyError, Fault, transient } from '../../domain/errors.ts';
import { onAbort } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics, ReflectorState, WatchEnd } from '../../ports/metrics.ts';
import type { KubeClient } from './kube-client.ts';
import { withoutBulk, type KubeObject } from './kube-object.ts';
import { KubeRefusal } from './kube-refusal.ts';
import { listPages, type KubeCollection } from './list-pages.ts';
import { ObjectStore, type Change } from './object-store.ts';
import { WatchBackoff } from './watch-backoff.ts';
import { watchEvents, WatchFault, type WatchEvent } from './watch-events.ts';

/** What told of a change: the watch as it happened, or a list, later. */
export type ChangeCause = 'watch' | 'list';

export interface ReflectorOptions<T> {
  /** For log and metrics: `workspaces`, `pods`. */
  readonly resource: string;
  readonly collection: KubeCollection;
  readonly client: KubeClient;
  /** What is kept of an object, which comes without its managed fields: the less the better. Must not throw. */
  readonly transform: (object: KubeObject) => T;
  /** Called for each change, after the copy has it. May remember a key somewhere, and nothing that takes time or can fail. */
  readonly onChange: (change: Change<T>, cause: ChangeCause) => void;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'kubeListed' | 'kubeWatchOpened' | 'kubeWatchEnded' | 'kubeMissed'>;
  /** Objects of one page of a list. Default 500. */
  readonly pageSize?: number;
}

/** The server ends a watch after 5 to 10 min, each after another time, so that many processes do not come back in step. */
const SHORTEST_WATCH_SECONDS = 300;
/** Bookmarks come every 60 s; the API server itself gives its cache 75 s. */
const SHORTEST_SILENCE_MS = 70_000;
const SILENCE_SPREAD_MS = 5_000;
/** A watch that lived so long begins no row of failures. */
const HEALTHY_MS = 120_000;
const SHORTEST_RELIST_MS = 600_000;
const RELIST_SPREAD_MS = 1_200_000;
const RETRY_COMPARE_MS = 60_000;
const SYNC_TIMEOUT_MS = 120_000;
/** No bookmark, no event and no list for so long: what is copied may be anything by now. */
const DEAF_MS = 300_000;

/**
 * Keeps a copy of the objects of one kind, and says what changes. A list makes the copy; a watch from the version of the list
 * keeps it. Every end of a watch is treated alike: after a pause that grows to 30 s the next one goes on at the last version
 * that was heard, or, where the server has forgotten that one (410), a new list is compared with the copy, and what it lacks is gone.
 *
 * A watch that lost an event looks like one that had none to tell. So every 10 to 30 min the list *of that very
 * version* is read and compared: whatever differs was missed. It is counted, and put right.
 */
export class Reflector<T> {
  readonly #options: ReflectorOptions<T>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #objects: ObjectStore<T>;
  readonly #backoff: WatchBackoff;
  /** "Aborts" when the first list is there. */
  readonly #firstList = new AbortController();
  /** Everything up to here was heard; `undefined`: nobody knows what was not. */
  #version: string | undefined;
  #relistAt = 0;
  #heardAt: number;
  #lastFailure: unknown;
  /** What the log has been told of the row of failures. */
  #told: 'nothing' | 'lost' | 'back' = 'nothing';

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#clock = options.client.clock;
    this.#logger = options.logger.with({ resource: options.resource });
    this.#objects = new ObjectStore((object) => options.transform(withoutBulk(object)));
    this.#backoff = new WatchBackoff(this.#clock);
    this.#heardAt = this.#clock.monotonic();
  }

  /** Lists and watches until `signal` aborts. Never rejects. One run at a time; what another one missed, its list finds. */
  async run(signal: AbortSignal): Promise<void> {
    this.#version = undefined;
    this.#heardAt = this.#clock.monotonic();
    while (!signal.aborted) {
      const delayMs = await this.#listAndWatch(signal);
      if (delayMs > 0) await this.#clock.sleep(delayMs, signal).catch(() => undefined);
    }
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  values(): Iterable<T> {
    return this.#objects.values();
  }

  /** Whether there is a copy at all. Before that nothing is known, and nothing is gone. */
  get hasSynced(): boolean {
    return this.#firstList.signal.aborted;
  }

  /** Resolves with the first copy. Throws when there is none within two minutes, with the reason of the last failure. */
  async whenSynced(signal: AbortSignal): Promise<void> {
    const deadline = new Deadline(this.#clock, SYNC_TIMEOUT_MS, signal);
    try {
      await deadline.race(new Promise<void>((resolve) => void onAbort(this.#firstList.signal, resolve)));
    } catch (error) {
      if (deadline.cause !== 'expired') throw error;
      const last = this.#lastFailure === undefined ? undefined : classifyError(this.#lastFailure);
      const what = `the first list of ${this.#options.resource} has not come within ${SYNC_TIMEOUT_MS / 1000} s`;
      throw transient(last?.reason ?? 'Unreachable', `${what}: ${last?.message ?? 'there is no answer'}`, last);
    } finally {
      deadline.clear();
    }
  }

  state(): ReflectorState {
    return {
      resource: this.#options.resource,
      objects: this.#objects.size,
      isSynced: this.hasSynced,
      silentSeconds: (this.#clock.monotonic() - this.#heardAt) / 1000,
    };
  }

  /** For liveness: that nothing was heard for five minutes, though a healthy server says something every one. */
  problem(): string | undefined {
    const { resource, silentSeconds } = this.state();
    if (silentSeconds * 1000 < DEAF_MS) return undefined;
    return `nothing was heard of ${resource} for ${Math.round(silentSeconds)} s`;
  }

  /** Resolves with how long to wait before the next try. */
  async #listAndWatch(signal: AbortSignal): Promise<number> {
    try {
      if (this.#version !== undefined && this.#clock.monotonic() >= this.#relistAt) {
        await this.#compare(this.#version, signal);
      }
      if (this.#version === undefined) await this.#list(signal);
      const isPlanned = await this.#watch(signal);
      return isPlanned ? 0 : this.#backoff.next();
    } catch (error) {
      if (signal.aborted) return 0;
      this.#fail(error);
      return this.#backoff.next(error instanceof KubeRefusal ? error.retryAfterMs : 0);
    }
  }

  /** With the list of the version that was heard last. A server that cannot tell it just now is no reason to stop listening. */
  async #compare(version: string, signal: AbortSignal): Promise<void> {
    const { metrics, resource } = this.#options;
    try {
      const missed = await this.#replace(version, signal);
      if (missed > 0) this.#logger.warn('the watch has missed changes, which a list has found', { missed });
      metrics.kubeMissed(resource, missed);
    } catch (error) {
      if (signal.aborted) throw error;
      if (isVersionLost(error) || (error instanceof KubeRefusal && error.status === 400)) {
        this.#version = undefined;
        return;
      }
      this.#relistAt = this.#clock.monotonic() + RETRY_COMPARE_MS;
      this.#fail(error);
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    try {
      await this.#replace(undefined, signal);
    } catch (error) {
      // The server has forgotten the moment of the first page before the last one was read.
      if (!isVersionLost(error)) throw error;
      await this.#replace(undefined, signal);
    }
    this.#firstList.abort();
  }

  /** Makes the copy what the list says; resolves with the number of differences. */
  async #replace(at: string | undefined, signal: AbortSignal): Promise<number> {
    const { client, collection, metrics, resource, pageSize = 500 } = this.#options;
    const startedAt = this.#clock.monotonic();
    const secondsSince = (): number => (this.#clock.monotonic() - startedAt) / 1000;
    try {
      const replacement = this.#objects.replace();
      this.#version = await listPages(client, collection, { pageSize, at, signal }, replacement.add);
      const changes = replacement.commit();
      this.#hear();
      this.#relistAt = this.#clock.monotonic() + SHORTEST_RELIST_MS + this.#clock.random() * RELIST_SPREAD_MS;
      metrics.kubeListed(resource, 'ok', secondsSince());
      this.#tell(changes, 'list');
      return changes.length;
    } catch (error) {
      if (!signal.aborted) metrics.kubeListed(resource, isVersionLost(error) ? 'expired' : 'error', secondsSince());
      throw error;
    }
  }

  /** Follows one watch to its end, and throws unless the server ended it, or we did: then true, since a list is due. */
  async #watch(signal: AbortSignal): Promise<boolean> {
    const { client, collection, metrics, resource } = this.#options;
    const stop = new AbortController();
    const unlink = onAbort(signal, () => stop.abort(signal.reason));
    const listDue = this.#clock.setTimer(this.#relistAt - this.#clock.monotonic(), () => stop.abort());
    let openedAt: number | undefined;
    let end: WatchEnd = 'closed';
    try {
      const events = watchEvents(client, collection, {
        from: this.#version ?? '',
        timeoutSeconds: SHORTEST_WATCH_SECONDS + Math.floor(this.#clock.random() * (SHORTEST_WATCH_SECONDS + 1)),
        silenceMs: SHORTEST_SILENCE_MS + this.#clock.random() * SILENCE_SPREAD_MS,
        signal: stop.signal,
        onOpen: () => {
          openedAt = this.#clock.monotonic();
          this.#opened();
        },
      });
      for await (const event of events) this.#apply(event);
    } catch (error) {
      end = stop.signal.aborted ? 'relist' : endOf(error);
      if (end === 'expired' || end === 'unreadable') this.#version = undefined;
      // Silent is also a server that has yet to reach this version, since its database was restored.
      if (end === 'silent') this.#relistAt = this.#clock.monotonic();
      if (end !== 'relist') throw error;
    } finally {
      unlink();
      listDue.cancel();
      if (openedAt !== undefined && this.#clock.monotonic() - openedAt >= HEALTHY_MS) this.#recover();
      if (!signal.aborted) metrics.kubeWatchEnded(resource, end);
    }
    return end === 'relist';
  }

  #apply(event: WatchEvent): void {
    if (event.kind !== 'bookmark') {
      this.#tell(event.kind === 'put' ? this.#objects.put(event.object) : this.#objects.remove(event.object), 'watch');
    }
    this.#version = event.version;
    this.#hear();
  }

  #tell(changes: readonly Change<T>[], cause: ChangeCause): void {
    for (const change of changes) {
      try {
        this.#options.onChange(change, cause);
      } catch (error) {
        this.#logger.error('news of an object was lost', { key: change.key, error: new Fault(error) });
      }
    }
  }

  #hear(): void {
    this.#heardAt = this.#clock.monotonic();
  }

  #opened(): void {
    this.#options.metrics.kubeWatchOpened(this.#options.resource);
    if (this.#told !== 'lost') return;
    this.#told = 'back';
    this.#logger.info('the Kubernetes API is watched again');
  }

  #recover(): void {
    this.#backoff.reset();
    this.#told = 'nothing';
  }

  #fail(error: unknown): void {
    this.#lastFailure = error;
    const isNews = this.#told === 'nothing';
    if (isNews) this.#told = 'lost';
    this.#logger[isNews ? 'warn' : 'debug']('the Kubernetes API is not heard; trying again until it is', { error });
  }
}

function isVersionLost(error: unknown): boolean {
  return error instanceof KubeRefusal && error.isVersionLost;
}

function endOf(error: unknown): WatchEnd {
  if (error instanceof WatchFault) return error.kind;
  if (!(error instanceof KubeRefusal)) return 'broken';
  if (error.isVersionLost) return 'expired';
  if (error.status === 429) return 'throttled';
  return error.status < 500 ? 'refused' : 'failed';
}
