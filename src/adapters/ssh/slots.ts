import { onAbort } from '../../ports/abort.ts';

/** So many at once; who comes later waits for a turn, first come first served. */
export class Slots {
  #limit: number;
  #taken = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** From now on fewer than are taken now, and at least one: it turned out that there is no room for so many. */
  shrink(): void {
    this.#limit = Math.max(1, Math.min(this.#limit, this.#taken - 1));
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
    if (this.#taken >= this.#limit) return;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#taken += 1;
    next();
  }
}
