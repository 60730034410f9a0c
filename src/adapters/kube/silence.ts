import { onAbort } from '../../ports/abort.ts';
import type { Clock, Timer } from '../../ports/clock.ts';

/** A signal that aborts when its parent does, or when nothing was heard for too long. `clear` when nobody listens any more. */
export class Silence {
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #controller = new AbortController();
  readonly #unlink: () => void;
  #heardAt: number;
  #timer: Timer | undefined;
  #isTooLong = false;

  constructor(clock: Clock, limitMs: number, parent: AbortSignal) {
    this.#clock = clock;
    this.#limitMs = limitMs;
    this.#heardAt = clock.monotonic();
    this.#arm();
    this.#unlink = onAbort(parent, () => this.#end(parent.reason));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get isTooLong(): boolean {
    return this.#isTooLong;
  }

  heard(): void {
    this.#heardAt = this.#clock.monotonic();
  }

  clear(): void {
    this.#timer?.cancel();
    this.#unlink();
  }

  /** One timer for many words: it looks when the newest was heard. */
  #arm(): void {
    const leftMs = this.#heardAt + this.#limitMs - this.#clock.monotonic();
    this.#timer = this.#clock.setTimer(leftMs, () => {
      if (this.#clock.monotonic() - this.#heardAt < this.#limitMs) return this.#arm();
      this.#isTooLong = true;
      this.#end(new Error(`nothing was heard for ${Math.round(this.#limitMs / 1000)} s`));
    });
  }

  #end(reason: unknown): void {
    this.#timer?.cancel();
    this.#controller.abort(reason);
  }
}
