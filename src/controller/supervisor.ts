import { onAbort, settlesWithin } from '../ports/abort.ts';
import type { Clock, Timer } from '../ports/clock.ts';
import type { Logger } from '../ports/logger.ts';
import type { LoopState, Metrics } from '../ports/metrics.ts';
import { Backoff } from './backoff.ts';
import { FailureRow } from './failure-row.ts';

/** Work in the background that is meant to go on for as long as the process (or its turn as leader) lasts. */
export interface Loop {
  readonly name: string;
  /**
   * Runs until `signal` aborts, calling `progress` each time it got somewhere. Ending earlier, in whatever way, is a
   * failure: the supervisor runs it again.
   */
  run(signal: AbortSignal, progress: () => void): Promise<void>;
  /** Longest time between two calls of `progress`; after it the run is aborted and started anew. Left out: any time. */
  readonly stallAfterMs?: number;
}

export interface SupervisorOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** A run that held out this long begins no row of failures, and ends none. */
const HEALTHY_AFTER_MS = 60_000;
/** How long `stop` waits for aborted loops to end. */
const STOP_GRACE_MS = 10_000;

/**
 * Keeps loops running: one that throws, ends or stalls is run again, after a backoff that grows to 30 s, and its last
 * progress is there to be seen. One loop never runs twice at once: a run that does not react to being aborted is not
 * replaced, it shows as stalled, {@link problem} says so, and only a new process helps.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #loops = new Map<string, SupervisedLoop>();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    options.metrics.observeLoops(() => this.state());
  }

  start(loop: Loop): void {
    if (this.#loops.has(loop.name)) throw new Error(`the loop ${loop.name} runs already`);
    this.#loops.set(loop.name, new SupervisedLoop(loop, this.#options));
  }

  state(): readonly LoopState[] {
    return [...this.#loops.values()].map((loop) => loop.state());
  }

  /** For liveness: which loops have stalled, for people; `undefined` when none has. */
  problem(): string | undefined {
    const stalled = this.state().filter((loop) => loop.stalled);
    if (stalled.length === 0) return undefined;
    return stalled.map((loop) => `no progress in ${loop.name} for ${Math.round(loop.idleSeconds)} s`).join('; ');
  }

  /** Aborts every loop and waits until they have ended, but not for ever. Idempotent; afterwards there is none to report. */
  async stop(): Promise<void> {
    const loops = [...this.#loops.values()];
    this.#loops.clear();
    await Promise.all(loops.map((loop) => loop.stop()));
  }
}

class SupervisedLoop {
  readonly #loop: Loop;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #backoff: Backoff<string>;
  readonly #stopping = new AbortController();
  readonly #ended: Promise<void>;
  readonly #failures = new FailureRow();
  #lastProgress: number;
  #restarts = 0;

  constructor(loop: Loop, options: SupervisorOptions) {
    this.#loop = loop;
    this.#clock = options.clock;
    this.#logger = options.logger.with({ loop: loop.name });
    this.#backoff = new Backoff(options.clock, { baseMs: 1_000, maxMs: 30_000 });
    this.#lastProgress = this.#clock.monotonic();
    this.#ended = this.#keepRunning();
  }

  state(): LoopState {
    const idleMs = this.#clock.monotonic() - this.#lastProgress;
    return {
      name: this.#loop.name,
      idleSeconds: idleMs / 1000,
      stalled: idleMs > (this.#loop.stallAfterMs ?? Infinity),
      restarts: this.#restarts,
    };
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the loop is being stopped'));
    if (await settlesWithin(this.#ended, STOP_GRACE_MS, this.#clock)) return;
    this.#logger.error('a loop does not react to being aborted and is left behind');
  }

  async #keepRunning(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const startedAt = this.#clock.monotonic();
      this.#lastProgress = startedAt;
      const failure = await this.#runOnce();
      if (this.#stopping.signal.aborted) return;

      if (this.#clock.monotonic() - startedAt > HEALTHY_AFTER_MS) {
        this.#backoff.forget(this.#loop.name);
        this.#failures.end();
      }
      const delayMs = this.#backoff.next(this.#loop.name);
      this.#logger[this.#failures.isNews(failure) ? 'error' : 'debug']('a background loop ended and is started again', {
        error: failure,
        delayMs,
      });
      this.#restarts++;
      await this.#clock.sleep(delayMs, this.#stopping.signal).catch(() => undefined);
    }
  }

  /** Resolves with why the run ended; never rejects. */
  async #runOnce(): Promise<unknown> {
    const run = new AbortController();
    const unlink = onAbort(this.#stopping.signal, () => run.abort(this.#stopping.signal.reason));
    const watchdog = this.#watch(run);
    try {
      await this.#loop.run(run.signal, () => {
        this.#lastProgress = this.#clock.monotonic();
      });
      return new Error('it ended by itself');
    } catch (thrown) {
      return run.signal.aborted ? run.signal.reason : thrown;
    } finally {
      watchdog.cancel();
      unlink();
    }
  }

  /** Aborts the run when it has made no progress for too long. */
  #watch(run: AbortController): Timer {
    const { stallAfterMs } = this.#loop;
    if (stallAfterMs === undefined) return { cancel: () => undefined };
    let timer: Timer;
    const arm = (): void => {
      const idleMs = this.#clock.monotonic() - this.#lastProgress;
      if (idleMs >= stallAfterMs) run.abort(new Error(`no progress for ${stallAfterMs / 1000} s`));
      else timer = this.#clock.setTimer(stallAfterMs - idleMs, arm);
    };
    arm();
    return { cancel: () => timer.cancel() };
  }
}
