import { untilAborted } from '../../ports/abort.ts';

interface Waiting {
  readonly after: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Lists, one after the other and counted, and who waits for one: a list that was begun before somebody asked may be too old. */
export class ListTurns {
  readonly #waiting = new Set<Waiting>();
  #begun = 0;
  #ended = 0;

  /** Number of the last one that was begun. */
  get begun(): number {
    return this.#begun;
  }

  /** The same of the last one that has ended. */
  get ended(): number {
    return this.#ended;
  }

  /** Whether somebody waits for one that has yet to begin. */
  get isWanted(): boolean {
    return [...this.#waiting].some(({ after }) => after >= this.#begun);
  }

  begin(): void {
    this.#begun += 1;
  }

  /** The one that was begun last has ended: well, unless there is an error. */
  end(error?: unknown): void {
    this.#ended = this.#begun;
    this.#settle(({ after }) => after < this.#ended, error);
  }

  /** None will ever begin. */
  close(error: unknown): void {
    this.#settle(() => true, error);
  }

  /** How the first one ends with a higher number than `after`: resolves, or throws why it failed. */
  async next(after: number, signal: AbortSignal): Promise<void> {
    let waiting: Waiting | undefined;
    const ended = new Promise<void>((resolve, reject) => {
      this.#waiting.add((waiting = { after, resolve, reject }));
    });
    try {
      await untilAborted(ended, signal);
    } finally {
      if (waiting !== undefined) this.#waiting.delete(waiting);
    }
  }

  #settle(isMeant: (waiting: Waiting) => boolean, error: unknown): void {
    for (const waiting of [...this.#waiting].filter(isMeant)) {
      this.#waiting.delete(waiting);
      if (error === undefined) waiting.resolve();
      else waiting.reject(error);
    }
  }
}
