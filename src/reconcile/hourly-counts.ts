import { transient } from '../domain/errors.ts';
import { isWithinHour } from '../domain/fleet.ts';
import type { Clock } from '../ports/clock.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import { readDocument, type DocumentSchema, type ReadDocument } from './state-documents.ts';

export interface HourlyCountsOptions {
  readonly state: ControllerState;
  readonly clock: Clock;
}

/** Passes of this process ask one after the other, so a lost swap is another process that still thinks it leads. */
const ATTEMPTS = 5;

/** What was done within the last hour, as documents of `ControllerState`. */
export class HourlyCounts {
  readonly #options: HourlyCountsOptions;
  #asked: Promise<unknown> = Promise.resolve();

  constructor(options: HourlyCountsOptions) {
    this.#options = options;
  }

  /**
   * `next` answers what the count becomes, or `undefined` where it has no room, which is answered as `false`; the same list
   * where nothing is added. A `dryRun` writes nothing.
   */
  async count<T extends { readonly atMs: number }>(
    key: string,
    schema: DocumentSchema<readonly T[]>,
    dryRun: boolean,
    signal: AbortSignal,
    next: (recent: readonly T[]) => readonly T[] | undefined,
  ): Promise<boolean> {
    const { state } = this.#options;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const { data: recent = [], version } = await this.recent(key, schema, signal);
      const after = next(recent);
      if (after === undefined) return false;
      if (dryRun || after === recent) return true;
      if ((await state.compareAndSwap(key, version, after, signal)) !== undefined) return true;
    }
    throw transient('StoreUnavailable', `the count ${key} is written by somebody else all the time`);
  }

  /** Throws `StoreUnavailable` where there is a count that cannot be read: it may be a full one. */
  async recent<T extends { readonly atMs: number }>(
    key: string,
    schema: DocumentSchema<readonly T[]>,
    signal: AbortSignal,
  ): Promise<ReadDocument<readonly T[]>> {
    const { state, clock } = this.#options;
    const { data, version } = await readDocument(state, key, schema, 'what it counts is counted anew', signal);
    return { data: data?.filter(({ atMs }) => isWithinHour(atMs, clock.now())), version };
  }

  /** One asker after the other: two would see the same room. */
  inTurn<T>(ask: () => Promise<T>): Promise<T> {
    const answer = this.#asked.then(ask);
    this.#asked = answer.catch(() => undefined);
    return answer;
  }
}
