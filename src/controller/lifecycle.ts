import type { Clock } from '../ports/clock.ts';
import type { Logger } from '../ports/logger.ts';
import { settlesWithin } from './abort.ts';

/** A part of the process that is started before those that use it and stopped after them. */
export interface Component {
  readonly name: string;
  /** Resolves when the part is of use to others. Rejects when it cannot be, or when `signal` aborts. */
  start?(signal: AbortSignal): Promise<void>;
  /** Ends everything the part has running. Called once, only after `start` resolved. */
  stop?(): Promise<void>;
}

export interface LifecycleOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** How long one part may take to stop before the next one's turn comes all the same. Default 45 s. */
  readonly stopTimeoutMs?: number;
}

/** Starts parts in the order in which they are given and stops them in the reverse order, whatever else fails. */
export class Lifecycle {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #stopTimeoutMs: number;
  readonly #started: Component[] = [];
  #stopping: Promise<void> | undefined;

  constructor(options: LifecycleOptions) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#stopTimeoutMs = options.stopTimeoutMs ?? 45_000;
  }

  /** Rejects with the first failure, after those that were started have been stopped again. */
  async start(components: readonly Component[], signal: AbortSignal): Promise<void> {
    try {
      for (const component of components) {
        signal.throwIfAborted();
        await component.start?.(signal);
        this.#started.push(component);
      }
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Never rejects: a part that cannot be stopped is named in the log, and the others still are. Idempotent. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopAll();
    return this.#stopping;
  }

  async #stopAll(): Promise<void> {
    for (let component = this.#started.pop(); component !== undefined; component = this.#started.pop()) {
      await this.#stopOne(component);
    }
  }

  async #stopOne(component: Component): Promise<void> {
    if (await settlesWithin(this.#stopped(component), this.#stopTimeoutMs, this.#clock)) return;
    this.#logger.error('a part of the process did not stop in time and is left behind', { component: component.name });
  }

  async #stopped(component: Component): Promise<void> {
    try {
      await component.stop?.();
    } catch (error) {
      this.#logger.error('a part of the process did not stop cleanly', { component: component.name, error });
    }
  }
}
