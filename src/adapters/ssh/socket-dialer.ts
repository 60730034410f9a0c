import type { Duplex } from 'node:stream';

import { aborted, ReconcileError, transient } from '../../domain/errors.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { SshEndpoint } from '../../ports/ssh-endpoint.ts';
import type { StreamDialer } from '../../ports/stream-dialer.ts';
import { NotSent, withFreshLease, type LeaseParts } from './fresh-lease.ts';
import type { Lease } from './session-pool.ts';

/** A host answers at once, or its connection is dead. */
const OPEN_TIMEOUT_MS = 10_000;

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
  readonly #parts: LeaseParts;

  constructor(endpoint: SshEndpoint, path: string, parts: LeaseParts) {
    this.#endpoint = endpoint;
    this.#path = path;
    this.#parts = parts;
  }

  /** Also throws what a login throws. */
  async dial(signal: AbortSignal): Promise<Duplex> {
    const where = { endpoint: this.#endpoint, use: 'streams' } as const;
    try {
      return await withFreshLease(this.#parts, where, signal, (lease) => this.#openOn(lease, signal));
    } catch (error) {
      if (signal.aborted) throw aborted(`nobody waits for ${this.#where} any more`, error);
      throw error instanceof NotSent ? this.#classify(error.cause) : error;
    }
  }

  get #where(): string {
    return `${this.#path} on ${this.#endpoint.description}`;
  }

  async #openOn({ session, release }: Lease, signal: AbortSignal): Promise<Duplex> {
    const deadline = new Deadline(this.#parts.clock, OPEN_TIMEOUT_MS, signal);
    try {
      const stream = await session.openSocket(this.#path, deadline.signal);
      stream.once('close', release);
      return stream;
    } catch (error) {
      if (deadline.cause === undefined && !session.isUsable) throw new NotSent(error);
      if (deadline.cause === 'expired') session.fault();
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
