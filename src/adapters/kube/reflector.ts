import { aborted, classifyError, Fault, transient } from '../../domain/errors.ts';
import { onAbort } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics, ReflectorState, WatchEnd } from '../../ports/metrics.ts';
import { Hearing } from './hearing.ts';
import type { KubeClient } from './kube-client.ts';
import type { KubeObject } from './kube-object.ts';
import { KubeRefusal } from './kube-refusal.ts';
import { listPages, type KubeCollection } from './list-pages.ts';
import { ListTurns } from './list-turns.ts';
import { ObjectStore, type Change } from './object-store.ts';
import { isLater } from './resource-version.ts';
import { WatchBackoff } from './watch-backoff.ts';
import { watchEvents, WatchFault, type WatchEvent } from './watch-events.ts';

/** What told of a change: the watch as it happened, or a list, later. */
export type ChangeCause = 'watch' | 'list';

export interface ReflectorOptions<T> {
  /** For log and metrics: `workspaces`, `pods`. */
  readonly resource: string;
  readonly collection: KubeCollection;
  readonly client: KubeClient;
  /** What is kept of an object, which comes whole: the less the better, so see {@link withoutBulk}. Must not throw. */
  readonly transform: (object: KubeObject) => T;
  /** Called for each change, after the copy has it. May remember a key somewhere, and nothing that takes time or can fail. */
  readonly onChange: (change: Change<T>, cause: ChangeCause) => void;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'kubeListed' | 'kubeWatchOpened' | 'kubeWatchEnded' | 'kubeMissed'>;
  /** Whether {@link Reflector.isRefused} is no news for people, since whoever runs it knows another way. */
  readonly mayBeRefused?: boolean;
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
/**
 * Keeps a copy of the objects of one kind, and says what changes. A list makes the copy; a watch from the version of the list
 * keeps it. Every end of a watch is treated alike: after a pause that grows to 30 s the next one goes on at the last version
 * that was heard, or, where the server has forgotten that one (410), a new list is compared with the copy, and what it lacks is gone.
 *
 * A watch that lost an event looks like one that had none to tell. So every 10 to 30 min the list *of that very
 * version* is read beside it and compared: whatever differs was missed. It is counted, and put right by a list of now.
 */
export class Reflector<T> {
  readonly #options: ReflectorOptions<T>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #objects: ObjectStore<T>;
  readonly #backoff: WatchBackoff;
  readonly #hearing: Hearing;
  readonly #lists = new ListTurns();
  #hasSynced = false;
  #isWatching = false;
  #stopWatch: (() => void) | undefined;
  #relistAt = 0;
  /** What the log has been told of the row of failures. */
  #told: 'nothing' | 'lost' | 'back' = 'nothing';

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#clock = options.client.clock;
    this.#logger = options.logger.with({ resource: options.resource });
    this.#objects = new ObjectStore({
      transform: options.transform,
      onFault: (key, error) => this.#logger.error('an object cannot be read', { key, error: new Fault(error) }),
    });
    this.#backoff = new WatchBackoff(this.#clock);
    this.#hearing = new Hearing(this.#clock, options.resource);
  }

  /** Lists and watches until `signal` aborts. Never rejects. One run at a time; what another one missed, its list finds. */
  async run(signal: AbortSignal): Promise<void> {
    this.#hearing.open();
    while (!signal.aborted) {
      const delayMs = await this.#listAndWatch(signal);
      if (delayMs > 0) await this.#clock.sleep(delayMs, signal).catch(() => undefined);
    }
    this.#hearing.close();
    this.#lists.close(aborted(`${this.#options.resource} are not watched any more`, signal.reason));
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  values(): Iterable<T> {
    return this.#objects.values();
  }

  /** Whether there is a copy at all. Before that nothing is known, and nothing is gone. */
  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** Whether the copy is being kept: a watch is open, or nothing has failed since something was heard. */
  get isHeard(): boolean {
    return this.#hasSynced && (this.#isWatching || this.#hearing.failure === undefined);
  }

  /** That these objects are not for us (403), if that was the last that was heard. */
  get refusal(): KubeRefusal | undefined {
    return this.#hearing.refusal;
  }

  get isRefused(): boolean {
    return this.refusal !== undefined;
  }

  /**
   * Resolves with the first copy. Throws as soon as a list has failed, at once where one has before: with the reason, which may
   * pass, so that whoever asks can say so and ask again; and when there is neither within two minutes.
   */
  async whenSynced(signal: AbortSignal): Promise<void> {
    if (this.#hasSynced) return;
    if (this.#hearing.failure !== undefined) throw classifyError(this.#hearing.failure);
    const deadline = new Deadline(this.#clock, SYNC_TIMEOUT_MS, signal);
    try {
      await this.#lists.next(this.#lists.ended, deadline.signal);
    } catch (error) {
      if (deadline.cause !== 'expired') throw error;
      const what = `the first list of ${this.#options.resource} has not come within ${SYNC_TIMEOUT_MS / 1000} s`;
      throw transient('Unreachable', what, error);
    } finally {
      deadline.clear();
    }
  }

  /**
   * Reads a list now, and resolves when the copy is at least as new as this call: whoever begins to act on it must not begin
   * with what was true for another. Throws as soon as that list has failed. Several calls share one list; a pause that the
   * server has asked for is kept.
   */
  async refresh(signal: AbortSignal): Promise<void> {
    const listed = this.#lists.next(this.#lists.begun, signal);
    this.#stopWatch?.();
    await listed;
  }

  /**
   * Resolves with true as soon as the copy is at least as new as `version`, which a write of ours to one of these objects was
   * answered with; with false when it is not within `timeoutMs`. Of an object that is not of this collection, or left it
   * before, only the bookmark of the next minute tells.
   */
  until(version: string, signal: AbortSignal, timeoutMs: number): Promise<boolean> {
    return this.#hearing.until(version, signal, timeoutMs);
  }

  state(): ReflectorState {
    return {
      resource: this.#options.resource,
      objects: this.#objects.size,
      isSynced: this.hasSynced,
      silentSeconds: this.#hearing.silentMs / 1000,
    };
  }

  /** For people and readiness: that nothing was heard for five minutes, though a healthy server says something every one. */
  outdated(): string | undefined {
    return this.#hearing.outdated();
  }

  /**
   * For liveness: that for five minutes nothing was heard and nothing failed either, though every try has an end. Then it
   * is this process that hangs. An API server that is away is no reason to start it again: it would know less than now.
   */
  problem(): string | undefined {
    return this.#hearing.problem();
  }

  /** Resolves with how long to wait before the next try. */
  async #listAndWatch(signal: AbortSignal): Promise<number> {
    try {
      if (this.#hearing.version === undefined || this.#lists.isWanted) await this.#list(signal);
      const isPlanned = this.#lists.isWanted || (await this.#watch(signal));
      return isPlanned ? 0 : this.#backoff.next();
    } catch (error) {
      if (signal.aborted) return 0;
      this.#fail(error);
      return this.#backoff.next(error instanceof KubeRefusal ? error.retryAfterMs : 0);
    }
  }

  /** Makes the copy what a list of now says. */
  async #list(signal: AbortSignal): Promise<void> {
    this.#lists.begin();
    try {
      let replacement = this.#objects.replace();
      const version = await this.#read(undefined, signal, () => (replacement = this.#objects.replace()).add);
      this.#tell(replacement.commit(), 'list');
      this.#hearing.listed(version);
      this.#hasSynced = true;
      this.#lists.end();
    } catch (error) {
      this.#lists.end(classifyError(error));
      throw error;
    }
  }

  /** While one watch goes on, compares the copy whenever that is due, and ends the watch where a list of now is needed. Never rejects. */
  async #checkWhenDue(watch: AbortController): Promise<void> {
    const { signal } = watch;
    while (!signal.aborted) {
      await this.#untilDue(signal);
      if (signal.aborted || (await this.#isCopyTrue(signal))) continue;
      this.#hearing.lose();
      watch.abort();
    }
  }

  /** No `sleep`: most of these timers are cancelled, with the watch. */
  async #untilDue(signal: AbortSignal): Promise<void> {
    const leftMs = this.#relistAt - this.#clock.monotonic();
    if (leftMs <= 0) return;
    let [cancel, unlink] = [(): void => undefined, (): void => undefined];
    await new Promise<void>((resolve) => {
      const timer = this.#clock.setTimer(leftMs, resolve);
      cancel = () => timer.cancel();
      unlink = onAbort(signal, resolve);
    });
    cancel();
    unlink();
  }

  /**
   * By the list of the version that was heard last, beside the watch, which goes on. A server that cannot tell just now is no
   * reason to doubt the copy; one to which that version means nothing is.
   */
  async #isCopyTrue(signal: AbortSignal): Promise<boolean> {
    const { metrics, resource } = this.#options;
    const copied = this.#objects.versions();
    const listed = new Map<string, string>();
    const begin = (): ((object: KubeObject) => void) => {
      return ({ metadata }) => void listed.set(metadata.uid, metadata.resourceVersion);
    };
    try {
      await this.#read(this.#hearing.version, signal, begin);
    } catch (error) {
      if (signal.aborted) return true;
      if (isVersionLost(error) || (error instanceof KubeRefusal && error.status === 400)) return false;
      this.#relistAt = this.#clock.monotonic() + RETRY_COMPARE_MS;
      this.#fail(error);
      return true;
    }
    const missed = differences(copied, listed);
    if (missed > 0) this.#logger.warn('the watch has missed changes, which a list has found', { missed });
    metrics.kubeMissed(resource, missed);
    return missed === 0;
  }

  /** Lists into what `begin` answers; resolves with the version of the list. */
  async #read(at: string | undefined, signal: AbortSignal, begin: () => (object: KubeObject) => void): Promise<string> {
    const { client, collection, metrics, resource, pageSize = 500 } = this.#options;
    let startedAt: number | undefined;
    const ended = (outcome: 'ok' | 'expired' | 'error'): void => {
      metrics.kubeListed(resource, outcome, (this.#clock.monotonic() - (startedAt ?? 0)) / 1000);
    };
    const counted = (): ((object: KubeObject) => void) => {
      if (startedAt !== undefined) ended('expired');
      startedAt = this.#clock.monotonic();
      const add = begin();
      return (object) => {
        this.#hearing.stir();
        add(object);
      };
    };
    try {
      const version = await listPages(client, collection, { pageSize, at, signal }, counted);
      this.#relistAt = this.#clock.monotonic() + SHORTEST_RELIST_MS + this.#clock.random() * RELIST_SPREAD_MS;
      ended('ok');
      return version;
    } catch (error) {
      if (!signal.aborted) ended(isVersionLost(error) ? 'expired' : 'error');
      throw error;
    }
  }

  /** Follows one watch to its end, and throws unless the server ended it, or we did: then true, since a list is due. */
  async #watch(signal: AbortSignal): Promise<boolean> {
    const { client, collection, metrics, resource } = this.#options;
    const stop = new AbortController();
    const unlink = onAbort(signal, () => stop.abort(signal.reason));
    this.#stopWatch = () => stop.abort();
    let openedAt: number | undefined;
    let checking: Promise<void> | undefined;
    let end: WatchEnd = 'closed';
    try {
      const events = watchEvents(client, collection, {
        from: this.#hearing.version ?? '',
        timeoutSeconds: SHORTEST_WATCH_SECONDS + Math.floor(this.#clock.random() * (SHORTEST_WATCH_SECONDS + 1)),
        silenceMs: SHORTEST_SILENCE_MS + this.#clock.random() * SILENCE_SPREAD_MS,
        signal: stop.signal,
        onOpen: () => {
          openedAt = this.#clock.monotonic();
          this.#isWatching = true;
          this.#opened();
          checking = this.#checkWhenDue(stop);
        },
      });
      for await (const event of events) this.#apply(event);
    } catch (error) {
      end = stop.signal.aborted ? 'relist' : endOf(error);
      if (end === 'expired' || end === 'unreadable') this.#hearing.lose();
      // Silent is also a server that has yet to reach this version, since its database was restored.
      if (end === 'silent') this.#relistAt = this.#clock.monotonic();
      if (end !== 'relist') throw error;
    } finally {
      this.#isWatching = false;
      this.#stopWatch = undefined;
      unlink();
      stop.abort();
      await checking;
      if (openedAt !== undefined && this.#clock.monotonic() - openedAt >= HEALTHY_MS) this.#recover();
      if (!signal.aborted) metrics.kubeWatchEnded(resource, end);
    }
    return end === 'relist';
  }

  #apply(event: WatchEvent): void {
    if (event.kind === 'bookmark' && isLater(this.#hearing.version ?? '', event.version)) {
      // It tells nothing before it comes to where we are. It lags behind another server, or its database was restored: a list tells.
      this.#relistAt = this.#clock.monotonic();
      this.#stopWatch?.();
      return;
    }
    if (event.kind !== 'bookmark') {
      this.#tell(event.kind === 'put' ? this.#objects.put(event.object) : this.#objects.remove(event.object), 'watch');
    }
    this.#hearing.told(event.version);
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
    this.#hearing.failed(error);
    // What is allowed again is read anew: nobody may have acted on the copy meanwhile.
    if (this.isRefused) this.#hearing.lose();
    const isExpected = this.#options.mayBeRefused === true && this.isRefused;
    const isNews = this.#told === 'nothing' && !isExpected;
    if (isNews) this.#told = 'lost';
    this.#logger[isNews ? 'warn' : 'debug']('the Kubernetes API is not heard; trying again until it is', { error });
  }
}

/** Objects that only one of the two has, or another version of, by their uids. */
function differences(one: ReadonlyMap<string, string>, other: ReadonlyMap<string, string>): number {
  let same = 0;
  for (const [uid, version] of one) if (other.get(uid) === version) same += 1;
  const uids = new Set([...one.keys(), ...other.keys()]);
  return uids.size - same;
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
