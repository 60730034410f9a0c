import type { WorkspaceKey } from '../../domain/name.ts';
import { classifyError } from '../../domain/errors.ts';
import type { Transition } from '../../domain/transition.ts';
import { settlesWithin } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { Notifier } from '../../ports/notifier.ts';
import type { KubeClient } from './kube-client.ts';
import { eventOf, microTime, sameEvent, type KubeEvent } from './kube-event.ts';
import { KubeRefusal } from './kube-refusal.ts';

export interface EventNotifierOptions {
  readonly client: Pick<KubeClient, 'call'>;
  /** Of the object that has this name now, or had it last; left out of the event where nobody knows. */
  readonly uidOf: (key: WorkspaceKey) => string | undefined;
  /** Asked anew each time, so that a changed configuration holds at once. */
  readonly isWanted: () => boolean;
  /** Which process this is. */
  readonly instance: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'eventTold'>;
}

const QUEUE_LENGTH = 1_000;
/** One after the other, and no faster than this: what a fleet has to tell must not slow down what it does. */
const PAUSE_MS = 100;
const TIMEOUT_MS = 10_000;
/** What is older helps nobody any more. */
const LONGEST_AGE_MS = 600_000;
const FIRST_BACKOFF_MS = 1_000;
const LONGEST_BACKOFF_MS = 30_000;
/** What happens again within it is counted in the event that is there; the same as in the recorder of client-go. */
const SERIES_MS = 360_000;
const REMEMBERED = 1_000;
const CLOSE_GRACE_MS = 5_000;

/** Waits to be told. */
interface Pending {
  readonly key: string;
  readonly event: KubeEvent;
  readonly madeAtMs: number;
  /** How often it happened since. */
  times: number;
  lastAtMs: number;
}

/** An event that was told, and may happen again. */
interface Told {
  readonly event: KubeEvent;
  readonly count: number;
  readonly atMs: number;
}

/**
 * Tells of transitions as events of Kubernetes, on the object that they are about. The same transition within minutes is
 * counted in the event that is there. Whoever tells never waits; of a queue that runs over, what is no warning goes first.
 */
export class EventNotifier implements Notifier {
  readonly #options: EventNotifierOptions;
  /** In the order in which they are told, by {@link sameEvent}. */
  readonly #queue = new Map<string, Pending>();
  /** The newest last. */
  readonly #told = new Map<string, Told>();
  readonly #closing = new AbortController();
  readonly #given = new AbortController();
  #sending: Promise<void> | undefined;
  #isOut = false;

  constructor(options: EventNotifierOptions) {
    this.#options = options;
  }

  notify(transition: Transition): void {
    const { clock, instance, isWanted, uidOf } = this.#options;
    if (!isWanted() || this.#closing.signal.aborted) return;
    const uid = uidOf(transition.workspace);
    const key = sameEvent(transition, uid);
    const atMs = clock.now();
    const waiting = this.#queue.get(key);
    if (waiting !== undefined) {
      waiting.times += 1;
      waiting.lastAtMs = atMs;
      return;
    }
    if (this.#queue.size >= QUEUE_LENGTH) this.#makeRoom();
    const event = eventOf(transition, { uid, instance, atMs });
    this.#queue.set(key, { key, event, madeAtMs: clock.monotonic(), times: 1, lastAtMs: atMs });
    this.#sending ??= this.#sendAll().finally(() => (this.#sending = undefined));
  }

  /** Tells what waits, for as long as a few seconds, and gives up the rest. Idempotent. */
  async close(): Promise<void> {
    this.#closing.abort();
    const sending = this.#sending ?? Promise.resolve();
    if (!(await settlesWithin(sending, CLOSE_GRACE_MS, this.#options.clock))) this.#given.abort();
    await sending;
  }

  #makeRoom(): void {
    const normal = [...this.#queue.values()].find(({ event }) => event.type === 'Normal');
    const [oldest] = this.#queue.keys();
    this.#queue.delete(normal?.key ?? oldest ?? '');
    this.#options.metrics.eventTold('dropped');
  }

  /** Never rejects. */
  async #sendAll(): Promise<void> {
    for (let [next] = this.#queue.values(); next !== undefined; [next] = this.#queue.values()) {
      this.#queue.delete(next.key);
      await this.#deliver(next);
      if (this.#queue.size > 0) await this.#rest(PAUSE_MS);
      if (!this.#given.signal.aborted) continue;
      for (const _ of this.#queue.keys()) this.#options.metrics.eventTold('dropped');
      this.#queue.clear();
    }
  }

  /** Ends when the event was taken, refused or given up. Never rejects. */
  async #deliver(pending: Pending): Promise<void> {
    const { clock, metrics } = this.#options;
    for (let failures = 0; clock.monotonic() - pending.madeAtMs < LONGEST_AGE_MS; failures++) {
      try {
        await this.#tell(pending);
        this.#isOut = false;
        return metrics.eventTold('sent');
      } catch (thrown) {
        const error = classifyError(thrown);
        const isFinal = thrown instanceof KubeRefusal && thrown.status < 500 && thrown.status !== 429;
        this.#complain(pending.event, error);
        if (isFinal) return metrics.eventTold('refused');
        if (this.#closing.signal.aborted) break;
        const backoffMs = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** failures) * (0.5 + clock.random() / 2);
        await this.#rest(error.retryAfterMs ?? backoffMs);
      }
    }
    metrics.eventTold('dropped');
  }

  /** In the event that is there, or as a new one. Throws what the client throws. */
  async #tell({ key, event, times, lastAtMs }: Pending): Promise<void> {
    const before = this.#told.get(key);
    if (before !== undefined && lastAtMs - before.atMs < SERIES_MS) {
      const count = before.count + times;
      const isCounted = await this.#count(before.event, count, lastAtMs);
      if (isCounted) return this.#remember(key, { event: before.event, count, atMs: lastAtMs });
    }
    await this.#create(times === 1 ? event : { ...event, series: seriesOf(times, lastAtMs) });
    this.#remember(key, { event, count: times, atMs: lastAtMs });
  }

  async #create(event: KubeEvent): Promise<void> {
    try {
      await this.#call('POST', collectionOf(event), event);
    } catch (error) {
      // It was made by a request of which nobody knew what came of it: nobody else makes one of this name.
      if (!(error instanceof KubeRefusal) || error.statusReason !== 'AlreadyExists') throw error;
    }
  }

  /** `false`: it is there no more. Events are forgotten after an hour, or by whoever clears them up. */
  async #count(event: KubeEvent, count: number, lastAtMs: number): Promise<boolean> {
    try {
      const path = `${collectionOf(event)}/${encodeURIComponent(event.metadata.name)}`;
      await this.#call('PATCH', path, { series: seriesOf(count, lastAtMs) }, 'application/merge-patch+json');
      return true;
    } catch (error) {
      if (error instanceof KubeRefusal && error.status === 404) return false;
      throw error;
    }
  }

  async #call(method: 'POST' | 'PATCH', path: string, body: unknown, contentType = 'application/json'): Promise<void> {
    await this.#options.client.call({ method, path, body, contentType, timeoutMs: TIMEOUT_MS }, this.#given.signal);
  }

  #remember(key: string, told: Told): void {
    this.#told.delete(key);
    this.#told.set(key, told);
    const [oldest] = this.#told.keys();
    if (this.#told.size > REMEMBERED && oldest !== undefined) this.#told.delete(oldest);
  }

  async #rest(ms: number): Promise<void> {
    await this.#options.clock.sleep(ms, this.#closing.signal).catch(() => undefined);
  }

  /** An outage is news once. In a namespace that goes, no event is taken any more. */
  #complain({ action }: KubeEvent, error: Error): void {
    const level = this.#isOut || action === 'Delete' ? 'debug' : 'warn';
    this.#isOut = true;
    this.#options.logger[level]('an event could not be told to the Kubernetes API', { error });
  }
}

function seriesOf(count: number, lastAtMs: number): NonNullable<KubeEvent['series']> {
  return { count, lastObservedTime: microTime(lastAtMs) };
}

function collectionOf({ metadata }: KubeEvent): string {
  return `/apis/events.k8s.io/v1/namespaces/${encodeURIComponent(metadata.namespace)}/events`;
}
