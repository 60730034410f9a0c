import { ADVICE } from '../domain/advice.ts';
import { aborted, classifyError, Fault, type ReconcileError, transient } from '../domain/errors.ts';
import type { Reason } from '../domain/reason.ts';
import { isAbort, onAbort, settlesWithin } from '../ports/abort.ts';
import type { Clock } from '../ports/clock.ts';
import type { LogFields, Logger } from '../ports/logger.ts';
import type { Metrics } from '../ports/metrics.ts';
import type { Reconcile, ReconcileResult } from '../ports/reconciler.ts';
import { LOW_PRIORITY, type WorkItem, type WorkQueue } from '../ports/work-queue.ts';

/** When `waiting` says nothing usable about how long, and the least that it may say. */
const DEFAULT_WAIT_MS = 60_000;
const SHORTEST_WAIT_MS = 1_000;

/** When a key that only a person can help is looked at again, give or take a fifth. */
const REPROBE_MS = 1_800_000;

export interface ControllerOptions<K extends string> {
  readonly queue: WorkQueue<K>;
  readonly reconcile: Reconcile<K>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Passes at once. They wait for the outside nearly all the time, so this is far above the number of cores. Default 32. */
  readonly workers?: number;
  /** After it the signal of a pass aborts. A net under the deadlines inside the pass, so longer than them. Default 10 min. */
  readonly passTimeoutMs?: number;
  /** How long `stop` lets passes end by themselves. Default 30 s. */
  readonly graceMs?: number;
  /** How long it then waits for aborted passes to end. Default 10 s. */
  readonly abortGraceMs?: number;
}

/** Takes keys from the queue and runs passes over them, for ever: nothing that a pass does ends the loop. */
export class Controller<K extends string> {
  readonly #queue: WorkQueue<K>;
  readonly #reconcile: Reconcile<K>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  readonly #workers: number;
  readonly #passTimeoutMs: number;
  readonly #graceMs: number;
  readonly #abortGraceMs: number;

  readonly #running = new Map<K, AbortController>();
  /** Why passes over a key have failed since the last that did not: each reason is news once, and noise after that. */
  readonly #told = new Map<K, Set<Reason>>();
  /** Set once passes may not go on; also stops one whose key was handed out just before. */
  #halt: ReconcileError | undefined;
  #lastProgress: number;
  #ended: Promise<unknown> = Promise.resolve();
  #stopping: Promise<void> | undefined;

  constructor(options: ControllerOptions<K>) {
    this.#queue = options.queue;
    this.#reconcile = options.reconcile;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#metrics = options.metrics;
    this.#workers = options.workers ?? 32;
    this.#passTimeoutMs = options.passTimeoutMs ?? 600_000;
    this.#graceMs = options.graceMs ?? 30_000;
    this.#abortGraceMs = options.abortGraceMs ?? 10_000;
    this.#lastProgress = this.#clock.monotonic();
  }

  /**
   * Starts the workers. When `signal` aborts this process may not act any more: every pass is aborted there and then.
   * For an orderly end call {@link stop}. To be called once.
   */
  start(signal: AbortSignal): void {
    const unlink = onAbort(signal, () => this.#haltNow('this process may not act any more'));
    this.#ended = Promise.all(Array.from({ length: this.#workers }, () => this.#work())).finally(unlink);
    this.#metrics.workers(0, this.#workers);
  }

  /**
   * Takes no more keys, lets passes under way end, aborts those that have not ended after the grace time, and resolves
   * when all have ended. One that does not even end then is named in the log and left behind. Idempotent.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#drain();
    return this.#stopping;
  }

  /** When a worker last took up or ended a key, on the monotonic clock; now, as long as one is free to do so. */
  get lastProgress(): number {
    return this.#running.size < this.#workers ? this.#clock.monotonic() : this.#lastProgress;
  }

  async #work(): Promise<void> {
    for (let item = await this.#queue.get(); item !== undefined; item = await this.#queue.get()) {
      try {
        await this.#pass(item);
      } catch (fault) {
        // Concluding the pass failed as well, say over a delay that is no number: still no reason to lose the key.
        this.#concludeFailure(item, new Error('the end of a pass could not be settled', { cause: fault }), 0);
      } finally {
        this.#queue.done(item.key);
      }
    }
  }

  async #pass(item: WorkItem<K>): Promise<void> {
    const startedAt = this.#clock.monotonic();
    const seconds = (): number => (this.#clock.monotonic() - startedAt) / 1000;
    try {
      const result = await this.#attempt(item.key);
      this.#concludeResult(item, result, seconds());
    } catch (thrown) {
      this.#concludeFailure(item, thrown, seconds());
    }
  }

  /** One call of the reconciler, which ends with its signal aborted if it does not end in time. */
  async #attempt(key: K): Promise<ReconcileResult> {
    if (this.#halt !== undefined) throw this.#halt;
    const pass = new AbortController();
    const deadline = this.#clock.setTimer(this.#passTimeoutMs, () => {
      this.#metrics.timedOut();
      pass.abort(transient('PassTimeout', `the pass over ${key} did not end within ${this.#passTimeoutMs / 1000} s`));
    });
    this.#trackRunning(() => this.#running.set(key, pass));
    try {
      return await this.#reconcile(key, pass.signal);
    } catch (thrown) {
      // What aborted the pass says why it ended; what it threw on the way out only says that it did.
      throw isAbort(thrown, pass.signal) ? pass.signal.reason : thrown;
    } finally {
      deadline.cancel();
      this.#trackRunning(() => this.#running.delete(key));
    }
  }

  #concludeResult(item: WorkItem<K>, result: ReconcileResult, seconds: number): void {
    const { requeueAfterMs, requeueFor = 'look', failure } = result;
    // First, because it throws over a delay that is no number, and the backoff must still be there then.
    if (requeueAfterMs !== undefined) this.#queue.addAfter(item.key, requeueAfterMs, LOW_PRIORITY, requeueFor);
    if (failure === undefined) this.#queue.forget(item.key);
    else this.#requeue(item, failure);
    if (failure instanceof Fault) this.#panicked(item.key, failure, seconds);
    else this.#told.delete(item.key);
    const outcome = failure !== undefined ? 'error' : requeueAfterMs === undefined ? 'success' : 'requeue_after';
    this.#metrics.reconciled(outcome, seconds, failure);
    this.#logger.debug('pass ended', { key: item.key, seconds, requeueAfterMs, reason: failure?.reason });
  }

  #concludeFailure(item: WorkItem<K>, thrown: unknown, seconds: number): void {
    const error = classifyError(thrown);
    this.#requeue(item, error);
    this.#report(item.key, error, seconds);
  }

  #requeue({ key, priority }: WorkItem<K>, error: ReconcileError): void {
    switch (error.class) {
      case 'transient':
        return this.#queue.addRateLimited(key, priority);
      case 'waiting':
        this.#queue.forget(key);
        return this.#queue.addAfter(key, waitMs(error), LOW_PRIORITY, 'wait');
      case 'terminal':
        this.#queue.forget(key);
        return this.#queue.addAfter(key, REPROBE_MS * (0.8 + 0.4 * this.#clock.random()), LOW_PRIORITY, 'reprobe');
      case 'unknown': {
        // Look at once what came of it; but something that breaks every time must not be asked in a tight loop.
        const isFirst = this.#queue.retries(key) === 0;
        this.#queue.addRateLimited(key, priority);
        if (isFirst) this.#queue.add(key, priority);
        return;
      }
      case 'aborted':
        // Nobody ended it: whoever refused what it wrote may be right, and then all of them end soon, or may not be.
        return this.#halt === undefined ? this.#queue.addRateLimited(key, priority) : this.#queue.forget(key);
    }
  }

  #report(key: K, error: ReconcileError, seconds: number): void {
    const { reason } = error;
    const fields = { key, seconds, reason, help: ADVICE[reason], error };
    if (error instanceof Fault) this.#panicked(key, error, seconds);
    if (error.class === 'aborted' && this.#halt !== undefined) return this.#logger.debug('pass aborted', fields);
    switch (error.class) {
      case 'waiting':
        this.#metrics.reconciled('requeue_after', seconds, error);
        return this.#log('info', 'pass waits', fields);
      case 'terminal':
        this.#metrics.reconciled('error', seconds, error);
        return this.#log(
          'error',
          'pass failed; only a change of the declaration, the source or the target helps',
          fields,
        );
      case 'transient':
      case 'unknown':
      case 'aborted':
        this.#metrics.reconciled('error', seconds, error);
        if (!(error instanceof Fault))
          this.#log('warn', 'pass failed; it is retried', { ...fields, failures: this.#queue.retries(key) });
    }
  }

  #panicked(key: K, { reason, cause }: Fault, seconds: number): void {
    this.#metrics.panicked();
    const fields = { key, seconds, reason, help: ADVICE[reason], error: cause };
    this.#log('error', 'a pass hit a fault of plugset itself; it is retried with backoff', fields);
  }

  /** One line at `level` for each reason until a pass gets through, however often it is tried; `debug` for the rest. */
  #log(
    level: 'info' | 'warn' | 'error',
    message: string,
    fields: LogFields & { readonly key: K; readonly reason: Reason },
  ): void {
    const told = this.#told.get(fields.key) ?? new Set();
    const isNews = !told.has(fields.reason);
    this.#told.set(fields.key, told.add(fields.reason));
    this.#logger[isNews ? level : 'debug'](message, fields);
  }

  #trackRunning(change: () => void): void {
    change();
    this.#lastProgress = this.#clock.monotonic();
    this.#metrics.workers(this.#running.size, this.#workers);
  }

  async #drain(): Promise<void> {
    this.#queue.shutDown();
    if (await settlesWithin(this.#ended, this.#graceMs, this.#clock)) return;
    this.#logger.warn('passes have not ended in time and are aborted', { keys: [...this.#running.keys()] });
    this.#haltNow('the process is stopping');
    if (await settlesWithin(this.#ended, this.#abortGraceMs, this.#clock)) return;
    this.#logger.error('passes do not react to being aborted and are left behind', { keys: [...this.#running.keys()] });
  }

  #haltNow(why: string): void {
    this.#halt ??= aborted(`the pass was ended: ${why}`);
    this.#queue.shutDown();
    for (const pass of this.#running.values()) pass.abort(this.#halt);
  }
}

/** The time comes from the outside, as in a Retry-After header: it must neither spin the loop nor break it. */
function waitMs({ retryAfterMs = DEFAULT_WAIT_MS }: ReconcileError): number {
  return Number.isFinite(retryAfterMs) ? Math.max(SHORTEST_WAIT_MS, retryAfterMs) : DEFAULT_WAIT_MS;
}
