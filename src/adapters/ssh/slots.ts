import { onAbort } from '../../ports/abort.ts';

/** So many at once; who comes later waits for a turn, first come first served. */
export class Slots {
  readonly #limit: number;
  #taken = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Resolves with the way to give the slot back; rejects with the reason of `signal`. */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#taken < this.#limit) this.#taken += 1;
    else await this.#turn(signal);
    let isTaken = true;
    return () => {
      if (isTaken) this.#giveBack();
      isTaken = false;
    };
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const unlink = onAbort(signal, () => {
        this.#waiting.splice(this.#waiting.indexOf(turn), 1);
        reject(signal.reason as Error);
      });
      const turn = (): void => {
        unlink();
        resolve();
      };
      this.#waiting.push(turn);
    });
  }

  #giveBack(): void {
    this.#taken -= 1;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#taken += 1;
    next();
  }
}
