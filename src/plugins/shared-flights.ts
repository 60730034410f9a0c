import { setMaxListeners } from 'node:events';

import { aborted } from '../domain/errors.ts';
import { untilAborted } from '../ports/abort.ts';

interface Flight<T> {
  readonly result: Promise<T>;
  readonly controller: AbortController;
  waiters: number;
}

/**
 * One run of a piece of work for everybody who wants its result at the same time. A caller that gives up leaves the run to
 * the others; when the last one has left, the run is aborted.
 */
export class SharedFlights<K, T> {
  readonly #flights = new Map<K, Flight<T>>();
  readonly #running = new Set<Promise<T>>();

  /** Throws `aborted` as soon as `signal` aborts, else what the work throws. */
  async join(key: K, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const flight = this.#flights.get(key) ?? this.#start(key, work);
    flight.waiters += 1;
    // A pass waits for all its plugins on one signal, and Node warns of a leak from the eleventh on.
    setMaxListeners(0, signal);
    try {
      return await untilAborted(flight.result, signal);
    } catch (error) {
      throw signal.aborted ? aborted('the caller gave up', error) : error;
    } finally {
      flight.waiters -= 1;
      if (flight.waiters === 0) {
        // The next caller must not be handed a run that is being aborted.
        if (this.#flights.get(key) === flight) this.#flights.delete(key);
        flight.controller.abort();
      }
    }
  }

  /** Aborts every run and waits for its end. */
  async close(): Promise<void> {
    for (const flight of this.#flights.values()) flight.controller.abort();
    await Promise.allSettled(this.#running);
  }

  #start(key: K, work: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const controller = new AbortController();
    const result = work(controller.signal).finally(() => {
      this.#running.delete(result);
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    });
    const flight: Flight<T> = { result, controller, waiters: 0 };
    this.#running.add(result);
    this.#flights.set(key, flight);
    // Everybody may have left by the time it fails.
    result.catch(() => undefined);
    return flight;
  }
}
