import type { Duplex } from 'node:stream';

import { transient } from '../../domain/errors.ts';
import { untilAborted, untilEither } from '../../ports/abort.ts';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { SshEndpoint } from '../../ports/ssh-endpoint.ts';
import { connectSession, type ConnectParts, type SessionEars } from './connect-session.ts';
import type { HostKeyPins } from './host-key-pins.ts';
import type { SshSession } from './session.ts';

const IDLE_MS = 90_000;
/** A connection may break in the moment it is handed over; a host on which that goes on is out of reach. */
const ATTEMPTS = 3;
/** Hosts come and go under new names for as long as this process lives. */
const REMEMBERED = 20_000;

/** A connection that is in use; `release` says that it no longer is. */
export interface Lease {
  readonly session: SshSession;
  /** It stood before: it may have been dead for a while without anybody knowing. */
  readonly isReused: boolean;
  readonly release: () => void;
  /**
   * There is no room on it, so whoever comes next gets another one, and this is closed after the last. Where nobody else holds
   * it nothing comes of it: another would have no more, and a login costs the host, and AWS, something.
   */
  readonly retire: () => void;
}

interface Entry {
  readonly connecting: Promise<SshSession>;
  readonly stop: AbortController;
  session: SshSession | undefined;
  waiting: number;
  leases: number;
  /** Takes no new command, and is closed after the last. */
  isRetired: boolean;
  idle: Timer | undefined;
}

/**
 * One connection per endpoint, dialled once for all who wait for it, shared by as many commands as the host allows, closed
 * when nobody has used it for a while and replaced when it gets old. One that has failed is never handed out again.
 */
export class SessionPool {
  readonly #clock: Clock;
  readonly #parts: ConnectParts;
  readonly #open = new Set<SshSession>();
  readonly #entries = new Map<string, Entry>();
  /** Whether somebody vouches for the key of a host, of those that were met last, also while no connection stands. */
  readonly #verified = new Map<string, boolean>();
  readonly #closing = new AbortController();

  constructor(clock: Clock, pins: HostKeyPins, ears: SessionEars = {}) {
    this.#clock = clock;
    this.#parts = { clock, pins, ears };
    ears.metrics?.observeSessions(() => this.#open.size);
  }

  /**
   * A turn on the connection of `endpoint`: for a command, for ending one, for a stream to a socket. Throws what
   * {@link SshHosts.locate} throws, and the reason of `signal`.
   */
  async lease(endpoint: SshEndpoint, use: 'commands' | 'kills' | 'streams', signal: AbortSignal): Promise<Lease> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const before = this.#entries.get(endpoint.id)?.session;
      const entry = this.#entryOf(endpoint);
      const session = await this.#connected(endpoint, entry, signal);
      entry.leases += 1;
      entry.idle?.cancel();
      try {
        const giveBack = await untilEither(signal, session.gone, (either) => session[use].take(either));
        let isHeld = true;
        const release = (): void => {
          if (!isHeld) return;
          isHeld = false;
          giveBack();
          this.#leave(endpoint, entry);
        };
        const retire = (): void => {
          if (entry.leases > (isHeld ? 1 : 0)) this.#retire(endpoint.id, entry);
        };
        return { session, isReused: before === session, release, retire };
      } catch {
        this.#leave(endpoint, entry);
        signal.throwIfAborted();
      }
    }
    throw transient('Unreachable', `the connection to ${endpoint.description} breaks as soon as it stands`);
  }

  /** Whether somebody vouches for the key of its host; `undefined` before it was met. */
  isVerified(endpointId: string): boolean | undefined {
    return this.#verified.get(endpointId);
  }

  /** Closes the connection as soon as nothing runs on it; the next command gets a new one. `over`: if it was dialled so. */
  release(endpointId: string, over?: Duplex): void {
    const entry = this.#entries.get(endpointId);
    if (entry === undefined || (over !== undefined && entry.session?.isOver(over) !== true)) return;
    this.#retire(endpointId, entry);
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('plugset is shutting down'));
    for (const [id, entry] of [...this.#entries]) {
      this.#retire(id, entry);
      entry.session?.end();
      entry.stop.abort(this.#closing.signal.reason);
      await entry.connecting.catch(() => undefined);
    }
    // Also those that take no new command, and were left to end with their last.
    for (const session of this.#open) session.end();
  }

  #entryOf(endpoint: SshEndpoint): Entry {
    const known = this.#entries.get(endpoint.id);
    if (known !== undefined && !this.#isSpent(endpoint, known)) return known;
    if (known !== undefined) this.#retire(endpoint.id, known);
    const stop = new AbortController();
    const entry: Entry = {
      connecting: untilEither(stop.signal, this.#closing.signal, (either) =>
        connectSession(this.#parts, endpoint, either),
      ),
      stop,
      session: undefined,
      waiting: 0,
      leases: 0,
      isRetired: false,
      idle: undefined,
    };
    entry.connecting.then(
      (session) => this.#welcome(endpoint.id, entry, session),
      () => this.#retire(endpoint.id, entry),
    );
    this.#entries.set(endpoint.id, entry);
    return entry;
  }

  #welcome(id: string, entry: Entry, session: SshSession): void {
    entry.session = session;
    this.#verified.delete(id);
    this.#verified.set(id, session.isVerified);
    const [oldest] = this.#verified.keys();
    if (this.#verified.size > REMEMBERED && oldest !== undefined) this.#verified.delete(oldest);
    if (session.isUsable) this.#open.add(session);
    const onGone = (): void => {
      this.#open.delete(session);
      this.#retire(id, entry);
    };
    session.gone.addEventListener('abort', onGone, { once: true });
    // The last of those who waited may have gone after the login, or goes in this moment.
    if (entry.waiting === 0) this.#retire(id, entry);
    else this.#rest(id, entry);
  }

  #isSpent({ maxAgeMs = Infinity }: SshEndpoint, { session }: Entry): boolean {
    if (session === undefined) return false;
    return !session.isUsable || this.#clock.monotonic() - session.openedMs > maxAgeMs;
  }

  /** Whoever waits may leave; when nobody is left, the dialling ends. */
  async #connected(endpoint: SshEndpoint, entry: Entry, signal: AbortSignal): Promise<SshSession> {
    entry.waiting += 1;
    try {
      return await untilAborted(entry.connecting, signal);
    } finally {
      entry.waiting -= 1;
      if (entry.waiting === 0 && entry.session === undefined) {
        this.#retire(endpoint.id, entry);
        entry.stop.abort(new Error('nobody waits for the connection any more'));
      }
    }
  }

  #leave({ id }: SshEndpoint, entry: Entry): void {
    entry.leases -= 1;
    if (entry.leases > 0) return;
    if (entry.isRetired) return entry.session?.end();
    this.#rest(id, entry);
  }

  #rest(id: string, entry: Entry): void {
    entry.idle = this.#clock.setTimer(IDLE_MS, () => this.#retire(id, entry));
  }

  #retire(id: string, entry: Entry): void {
    entry.isRetired = true;
    entry.idle?.cancel();
    if (this.#entries.get(id) === entry) this.#entries.delete(id);
    if (entry.leases === 0) entry.session?.end();
  }
}
