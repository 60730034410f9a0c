import type { Duplex } from 'node:stream';

import { aborted, ReconcileError, transient } from '../../domain/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { SshEndpoint } from '../../ports/ssh-endpoint.ts';
import type { StreamDialer } from '../../ports/stream-dialer.ts';
import type { SessionPool } from './session-pool.ts';

/** A host answers at once, or its connection is dead. */
const OPEN_TIMEOUT_MS = 10_000;
/** Dead connections show when they are used. */
const ATTEMPTS = 3;

export interface SocketDialerParts {
  readonly pool: SessionPool;
  readonly clock: Clock;
}

/** Whether a host that can be talked to does not open a socket. */
export function isSocketRefused(error: unknown): error is ReconcileError {
  return error instanceof ReconcileError && isRefusal(error.cause);
}

/** The number of ssh2's error is that of the host. */
function isRefusal(error: unknown): boolean {
  return typeof (error as { readonly reason?: unknown } | undefined)?.reason === 'number';
}

/** To a Unix socket of a host, as channels on the connection that its commands share. */
export class SocketDialer implements StreamDialer {
  readonly #endpoint: SshEndpoint;
  readonly #path: string;
  readonly #parts: SocketDialerParts;

  constructor(endpoint: SshEndpoint, path: string, parts: SocketDialerParts) {
    this.#endpoint = endpoint;
    this.#path = path;
    this.#parts = parts;
  }

  /** Also throws what a login throws. */
  async dial(signal: AbortSignal): Promise<Duplex> {
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
        const stream = await this.#attempt(signal);
        if (stream !== undefined) return stream;
      }
    } catch (error) {
      if (signal.aborted) throw aborted(`nobody waits for ${this.#where} any more`, error);
      throw error;
    }
    throw transient('Unreachable', `${this.#where}: the connection breaks as soon as it is used`);
  }

  get #where(): string {
    return `${this.#path} on ${this.#endpoint.description}`;
  }

  /** `undefined`: the connection had been dead, and another may do. */
  async #attempt(signal: AbortSignal): Promise<Duplex | undefined> {
    const { pool, clock } = this.#parts;
    const { session, isReused, release } = await pool.lease(this.#endpoint, 'streams', signal);
    const deadline = new Deadline(clock, OPEN_TIMEOUT_MS, signal);
    try {
      const stream = await session.openSocket(this.#path, deadline.signal);
      stream.once('close', release);
      return stream;
    } catch (error) {
      if (deadline.cause === 'expired') session.fault();
      release();
      if (deadline.cause === undefined && isReused && !session.isUsable) return undefined;
      throw this.#classify(error);
    } finally {
      deadline.clear();
    }
  }

  /** sshd gives one number for a socket that is not there, one that the user may not open, and one that it may not forward to. */
  #classify(error: unknown): ReconcileError {
    const how = isRefusal(error)
      ? 'nothing answers there, its user may not open it, or its SSH server forwards to no socket (AllowStreamLocalForwarding)'
      : 'no answer';
    return transient('Unreachable', `${this.#where} cannot be reached: ${how}`, error);
  }
}
