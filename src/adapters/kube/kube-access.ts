import { isDeepStrictEqual } from 'node:util';

import { ReconcileError, transient } from '../../domain/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { untilAborted } from '../../ports/abort.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { KubeConnection, ReadConnection } from './kube-connection.ts';

export interface KubeAccessOptions {
  /** Forgets whatever was remembered: files are read again, plug-ins are asked again. */
  readonly open: () => Promise<ReadConnection>;
  readonly clock: Clock;
}

/** So long files are not read again: a renewed token is valid long before the old one ends. */
const FRESH_MS = 10_000;
/** Whoever was refused with what was read just now is refused again. */
const RENEW_EVERY_MS = 10_000;
/** A plug-in may ask a person. One that hangs is ended after this time, and another one asked by whoever asks next. */
const READ_TIMEOUT_MS = 60_000;

/** Where the API server is and as whom to ask, read no more often than needed, and by one reader at a time. */
export class KubeAccess {
  readonly #open: () => Promise<ReadConnection>;
  readonly #clock: Clock;
  #source: ReadConnection | undefined;
  #known: { readonly connection: KubeConnection; readonly readAt: number } | undefined;
  #reading: Promise<KubeConnection> | undefined;
  #renewedAt = -Infinity;

  constructor({ open, clock }: KubeAccessOptions) {
    this.#open = open;
    this.#clock = clock;
  }

  /** The same object for as long as it says the same. Throws `AuthenticationFailed` where there is no credential. */
  async current(signal: AbortSignal): Promise<KubeConnection> {
    if (this.#known !== undefined && this.#clock.monotonic() - this.#known.readAt < FRESH_MS) {
      return this.#known.connection;
    }
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return await untilAborted(this.#reading, signal);
  }

  /** `refused` is not taken any more. Whether {@link current} may say something better now. */
  renew(refused: KubeConnection): boolean {
    if (this.#known?.connection !== refused) return true;
    if (this.#clock.monotonic() - this.#renewedAt < RENEW_EVERY_MS) return false;
    this.#renewedAt = this.#clock.monotonic();
    this.#source = undefined;
    this.#known = undefined;
    return true;
  }

  async #read(): Promise<KubeConnection> {
    const deadline = new Deadline(this.#clock, READ_TIMEOUT_MS, new AbortController().signal);
    try {
      this.#source ??= await deadline.race(this.#open());
      const read = await deadline.race(this.#source(deadline.signal));
      const before = this.#known?.connection;
      const connection = isDeepStrictEqual(before, read) && before !== undefined ? before : read;
      this.#known = { connection, readAt: this.#clock.monotonic() };
      return connection;
    } catch (error) {
      if (error instanceof ReconcileError) throw error;
      throw transient('AuthenticationFailed', 'no credential for Kubernetes could be had in time', error);
    } finally {
      deadline.clear();
    }
  }
}
