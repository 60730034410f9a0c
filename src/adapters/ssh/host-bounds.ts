import type { Duplex } from 'node:stream';

import type { Client, ClientChannel } from 'ssh2';

import { transient, type ReconcileError } from '../../domain/errors.ts';
import { onAbort } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import { channelsOf, onSignatureWanted, questionsOf, queuedBytesOf } from './ssh2-inside.ts';

/*
 * The host decides what it takes, what it sends and what it asks for, and ssh2 keeps whatever follows from that. Whoever has
 * a host could fill the controller's memory or use up its time, and so hold up the workspaces of everybody else.
 */

/** Greeting, keys and banners. ssh2 goes through a greeting from its beginning with whatever comes after it. */
const BEFORE_LOGIN_BYTES = 256 * 1024;
/** Each costs a signature, of a large key some milliseconds; a host asks for one, or for those of an agent. */
const SIGNATURES = 32;
/** Writing stops here until the host has taken what there is … */
const UNTAKEN_BYTES = 1024 * 1024;
/** … so what goes beyond are answers to a host that asks, and does not listen. */
const MOST_UNTAKEN_BYTES = 8 * 1024 * 1024;
/** Of all channels, by their windows no more than 4 MiB each. */
const MOST_UNREAD_BYTES = 32 * 1024 * 1024;
/** Those that we have closed are kept until the host closes them too. */
const MOST_CHANNELS = 256;
/** A keepalive every few seconds, and a proof of new host keys. */
const MOST_QUESTIONS = 32;
/** New keys are made for what was moved (some hundred MiB; 1 MiB is a small limit) or by time, once in minutes. */
const MOVED_BYTES = 256 * 1024;
const EARLY_EXCHANGES = 30;
const MINUTE_MS = 60_000;

/** What one host may have us hold and do. */
export class HostBounds {
  readonly #description: string;
  readonly #client: Client;
  readonly #stream: Duplex;
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #waiting = new Set<() => void>();
  #isLoggedIn = false;
  #signatures = 0;
  #moved = 0;
  #early = 0;
  #minuteMs: number;

  /** Ends `stream` with an error when the host goes beyond. */
  constructor(description: string, client: Client, stream: Duplex, clock: Pick<Clock, 'monotonic'>) {
    this.#description = description;
    this.#client = client;
    this.#stream = stream;
    this.#clock = clock;
    this.#minuteMs = clock.monotonic();
    const wake = (): void => this.#wake();
    // Not before: it would set the stream going while ssh2 has no ear for it.
    client.once('connect', () => {
      stream.on('data', (chunk: Buffer) => this.#received(chunk));
      onSignatureWanted(client, () => this.#maySign());
    });
    client.once('ready', () => (this.#isLoggedIn = true));
    client.on('handshake', () => this.#exchanged());
    stream.on('drain', wake);
    stream.once('close', wake);
  }

  /** Before each write of so many bytes: waits until the host has taken what was written before, or is gone, or `signal` aborts. */
  async room(bytes: number, signal: AbortSignal): Promise<void> {
    while (this.#untaken() > UNTAKEN_BYTES && !this.#stream.destroyed && !signal.aborted) await this.#change(signal);
    this.#moved += bytes;
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const woken = (): void => {
        this.#waiting.delete(woken);
        unlink();
        resolve();
      };
      const unlink = onAbort(signal, () => woken());
      this.#waiting.add(woken);
    });
  }

  #wake(): void {
    for (const woken of [...this.#waiting]) woken();
  }

  /** While keys are exchanged, ssh2 sends nothing and keeps it all. */
  #untaken(): number {
    return this.#stream.writableLength + queuedBytesOf(this.#client);
  }

  #received({ length }: Buffer): void {
    this.#moved += length;
    const excess = this.#isLoggedIn ? this.#excess() : this.#excessBeforeLogin();
    if (excess !== undefined) this.#fault(excess);
  }

  /** `false`: there have been enough, and the host is let go of. */
  #maySign(): boolean {
    this.#signatures += 1;
    const isTooMuch = this.#signatures > SIGNATURES;
    if (isTooMuch) this.#fault('wants one signature after another');
    return !isTooMuch;
  }

  #excessBeforeLogin(): string | undefined {
    return this.#moved > BEFORE_LOGIN_BYTES
      ? `sends more than ${BEFORE_LOGIN_BYTES} bytes before the login`
      : undefined;
  }

  /** What the host overdoes, for people. */
  #excess(): string | undefined {
    if (this.#untaken() > MOST_UNTAKEN_BYTES) return 'asks and does not take the answers';
    if (questionsOf(this.#client) > MOST_QUESTIONS) return 'wants questions asked that it does not answer';
    const channels = channelsOf(this.#client);
    if (channels.length > MOST_CHANNELS) return `closes no channels, of which there are ${channels.length}`;
    const unread = channels.reduce((sum, channel) => sum + unreadBytesOf(channel), 0);
    return unread > MOST_UNREAD_BYTES ? 'sends more than it may' : undefined;
  }

  #exchanged(): void {
    const isEarly = this.#isLoggedIn && this.#moved < MOVED_BYTES;
    if (this.#isLoggedIn) this.#moved = 0;
    this.#wake();
    if (!isEarly) return;
    const nowMs = this.#clock.monotonic();
    if (nowMs - this.#minuteMs > MINUTE_MS) {
      this.#minuteMs = nowMs;
      this.#early = 0;
    }
    this.#early += 1;
    if (this.#early > EARLY_EXCHANGES) this.#fault(`wants new keys all the time, and nothing moved`);
  }

  #fault(excess: string): void {
    this.#stream.destroy(this.#refusal(excess));
  }

  #refusal(excess: string): ReconcileError {
    return transient('Unreachable', `${this.#description} ${excess}: the connection was ended`);
  }
}

function unreadBytesOf({ readableLength, stderr }: ClientChannel): number {
  return readableLength + stderr.readableLength;
}
