import { classifyError, waiting, type ReconcileError } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { Clock } from '../ports/clock.ts';
import { Deadline } from '../ports/deadline.ts';

export interface ErrandsOptions {
  readonly clock: Clock;
  /** How long a pass waits for an errand, milliseconds. Left out: until it ends, as a run of a single pass should. */
  readonly patienceMs?: number | undefined;
  /** Passes that went on without the answer: it is there now. */
  readonly onEnded: (keys: readonly WorkspaceKey[]) => void;
}

/** Who wants what. */
export interface ErrandFor {
  readonly id: string;
  readonly what: string;
  readonly key: WorkspaceKey;
}

interface Errand<T> {
  readonly result: Promise<T>;
  readonly controller: AbortController;
  readonly startedAtMs: number;
  readonly left: Set<WorkspaceKey>;
}

interface Failure {
  readonly error: ReconcileError;
  /** Monotonic. */
  readonly atMs: number;
}

/** So long a failure is the answer, however many passes ask; then the errand is run again. */
const FAILURE_STANDS_MS = 5_000;
/** A failure that nobody asked about for so long is of no use to anybody. */
const FAILURE_FORGOTTEN_MS = 30 * 60_000;
/** For a missed end; the end itself wakes whoever left. */
const RECHECK_MS = 60_000;

/**
 * Work that a pass needs and that may take long: asking a forge, fetching a tree. An errand is run once for all who want it. A
 * pass waits a short while and then goes on without it, so that a forge that hangs holds up neither the other plugins
 * of a workspace nor the other workspaces of its engine; the errand goes on, and whoever left is woken at its end.
 */
export class Errands<T> {
  readonly #options: ErrandsOptions;
  readonly #running = new Map<string, Errand<T>>();
  readonly #failures = new Map<string, Failure>();
  #isStopped = false;

  constructor(options: ErrandsOptions) {
    this.#options = options;
  }

  /**
   * What `work` gives, or throws, if it ends in time; equal `id`s are one errand. Else throws what it threw the last
   * time, or a wait (`Progressing`) when it has not ended before. `what` is asked, for people.
   */
  async run({ id, what, key }: ErrandFor, work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    const { clock, patienceMs } = this.#options;
    // A signal of its own: a pass has many plugins, and Node warns of a leak from the eleventh listener on.
    const own = AbortSignal.any([signal]);
    if (patienceMs === undefined) return work(own);
    const failure = this.#failures.get(id);
    if (failure !== undefined && clock.monotonic() - failure.atMs < FAILURE_STANDS_MS) throw failure.error;
    const errand = this.#running.get(id) ?? this.#start(id, work);
    const leftMs = Math.max(0, errand.startedAtMs + patienceMs - clock.monotonic());
    const deadline = new Deadline(clock, leftMs, own);
    try {
      return await deadline.race(errand.result);
    } catch (error) {
      if (deadline.cause !== 'expired') throw error;
      errand.left.add(key);
      throw (
        failure?.error ?? waiting('Progressing', `${what} has not answered yet; it goes on when it has`, RECHECK_MS)
      );
    } finally {
      deadline.clear();
    }
  }

  /** Ends everything that is under way. */
  stop(): void {
    this.#isStopped = true;
    for (const { controller } of this.#running.values()) controller.abort(stopped());
  }

  #start(id: string, work: (signal: AbortSignal) => Promise<T>): Errand<T> {
    const { clock } = this.#options;
    const controller = new AbortController();
    if (this.#isStopped) controller.abort(stopped());
    const result = work(controller.signal);
    const errand: Errand<T> = { result, controller, startedAtMs: clock.monotonic(), left: new Set() };
    this.#running.set(id, errand);
    errand.result.then(
      () => this.#end(id, errand, undefined),
      (error: unknown) => this.#end(id, errand, classifyError(error)),
    );
    return errand;
  }

  #end(id: string, { left }: Errand<T>, error: ReconcileError | undefined): void {
    this.#running.delete(id);
    if (this.#isStopped) return;
    const nowMs = this.#options.clock.monotonic();
    for (const [other, { atMs }] of this.#failures)
      if (nowMs - atMs > FAILURE_FORGOTTEN_MS) this.#failures.delete(other);
    const before = this.#failures.get(id);
    if (error === undefined) this.#failures.delete(id);
    else this.#failures.set(id, { error, atMs: nowMs });
    // Failed again, for the same reason: whoever left was told so already, and comes back in its own time.
    const isNews = error === undefined || before?.error.reason !== error.reason;
    if (isNews && left.size > 0) this.#options.onEnded([...left]);
  }
}

function stopped(): Error {
  return new Error('nobody waits any more');
}
