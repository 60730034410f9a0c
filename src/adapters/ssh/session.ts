import { setMaxListeners } from 'node:events';
import type { Duplex } from 'node:stream';

import type { Client, ClientChannel } from 'ssh2';

import { onAbort } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import { traced } from '../../ports/path-trace.ts';
import type { HostKey } from '../../ports/ssh-endpoint.ts';
import { ChannelStream } from './channel-stream.ts';
import { HostBounds } from './host-bounds.ts';
import { shakeHands, type Login } from './login.ts';
import { Slots } from './slots.ts';
import { channelAt, lastChannelOf } from './ssh2-inside.ts';

/** sshd allows 10 channels on one connection (MaxSessions) … */
const COMMANDS_AT_ONCE = 8;
/** … of which some are kept for ending commands. */
const KILLS_AT_ONCE = 2;
/** Channels to sockets do not count for MaxSessions; each costs the host two descriptors, of which sshd has 1024. */
const STREAMS_AT_ONCE = 64;

/** A host that takes no bytes in one packet has ssh2 cut up what it is sent for ever; one that takes few costs a packet for each. */
const SMALLEST_PACKET_BYTES = 1024;

/** A host that takes the good-bye takes it at once. */
const GOODBYE_MS = 1_000;

/** How far a command got. */
export type Started =
  | { readonly kind: 'running'; readonly channel: ClientChannel }
  /** For certain nothing was started. */
  | { readonly kind: 'unsent'; readonly error: unknown }
  /** It was asked for, and nobody answered: it may run. */
  | { readonly kind: 'lost'; readonly error: unknown };

/** One connection to one host, for many commands. What has failed once is never used again. */
export class SshSession {
  readonly hostKey: HostKey;
  readonly isVerified: boolean;
  /** On the clock's monotonic time. */
  readonly openedMs: number;
  readonly commands = new Slots(COMMANDS_AT_ONCE);
  readonly kills = new Slots(KILLS_AT_ONCE);
  readonly streams = new Slots(STREAMS_AT_ONCE);
  /** Aborts when the connection is gone. */
  readonly gone: AbortSignal;
  readonly #clock: SessionClock;
  readonly #client: Client;
  readonly #stream: Duplex;
  readonly #bounds: HostBounds;
  readonly #gone = new AbortController();

  private constructor({ client, bounds, clock }: Parts, { stream, trust }: Login, hostKey: HostKey) {
    this.#clock = clock;
    this.#client = client;
    this.#stream = stream;
    this.#bounds = bounds;
    this.hostKey = hostKey;
    this.isVerified = trust.isVerified;
    this.openedMs = clock.monotonic();
    this.gone = this.#gone.signal;
    // Every stream on it wants to know.
    setMaxListeners(0, this.gone);
    client.once('close', () => this.fault());
    client.on('error', (error) => this.fault(error));
    // Half of a connection is none, whoever has ended it: a host that goes on holding its own would be kept for ever.
    client.once('end', () => this.fault());
    stream.once('finish', () => this.fault());
  }

  /**
   * Shakes hands over `stream` and logs in. Rejects with the reason of `signal` when that aborts; the stream is the caller's to end then.
   */
  static async open(login: Login, clock: SessionClock, signal: AbortSignal): Promise<SshSession> {
    // Loaded late, like every client of a back end that may not be in use. CommonJS, with names that Node does not detect.
    const { default: ssh2 } = await import('ssh2');
    const client = new ssh2.Client();
    // ssh2 emits two errors for one handshake that took too long; one without a listener would end the process.
    client.on('error', () => undefined);
    const bounds = new HostBounds(login.endpoint.description, client, login.stream, clock);
    try {
      const hostKey = await traced(login.trace, 'login', (saw) => {
        saw({ user: login.endpoint.user });
        return shakeHands(client, login, signal);
      });
      return new SshSession({ client, bounds, clock }, login, hostKey);
    } catch (error) {
      client.destroy();
      throw error;
    }
  }

  get isUsable(): boolean {
    return !this.gone.aborted;
  }

  isOver(stream: Duplex): boolean {
    return this.#stream === stream;
  }

  /** Asks for `text` to be run. A command that is called off before it is certain to be started ends the connection. */
  start(text: string, signal: AbortSignal): Promise<Started> {
    // Nothing was asked for, and others have commands on the connection.
    if (signal.aborted) return Promise.resolve({ kind: 'unsent', error: signal.reason });
    return new Promise((resolve) => {
      let isOpen = false;
      let id = -1;
      const options = {
        // The only sign of how far a request got: ssh2 reads it when the channel is open, before it sends the command.
        get env(): undefined {
          isOpen = true;
          return undefined;
        },
      };
      const missed = (error: unknown): void => resolve({ kind: isOpen ? 'lost' : 'unsent', error });
      const unlink = onAbort(signal, () => {
        // It would be sent all the same as soon as the host answers.
        this.fault();
        missed(signal.reason);
      });
      try {
        this.#client.exec(text, options as object, (error, channel) => {
          unlink();
          if (error === undefined) resolve(this.#faultIfUnwritable(channel) ?? { kind: 'running', channel });
          else if (this.isUsable && this.#closeIfRefused(id, isOpen)) resolve({ kind: 'unsent', error });
          else missed(error);
        });
        id = lastChannelOf(this.#client);
      } catch (error) {
        unlink();
        // Thrown rather than handed over when the connection has ended already.
        resolve({ kind: 'unsent', error });
      }
    });
  }

  /** Before each write of so many bytes to a channel: waits until the host takes more. Ends without an error when it is gone. */
  room(bytes: number, signal: AbortSignal): Promise<void> {
    return this.#bounds.room(bytes, signal);
  }

  /** A stream to a Unix socket of the host. Rejects with what ssh2 says, or with the reason of `signal`. */
  openSocket(path: string, signal: AbortSignal): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      const unlink = onAbort(signal, () => reject(signal.reason as Error));
      const failed = (error: unknown): void => {
        unlink();
        reject(error);
      };
      try {
        this.#client.openssh_forwardOutStreamLocal(path, (error, channel) => {
          const refused = error === undefined ? this.#faultIfUnwritable(channel) : { error };
          if (refused !== undefined) return failed(refused.error);
          unlink();
          const stream = new ChannelStream(channel, this);
          // Nobody waits for it any more.
          if (signal.aborted) stream.destroy();
          resolve(stream);
        });
      } catch (error) {
        failed(error);
      }
    });
  }

  /** Whether the host has said no to a command; its channel is closed then. One that closes it itself has said nothing. */
  #closeIfRefused(id: number, isOpen: boolean): boolean {
    if (!isOpen) return true;
    const channel = channelAt(this.#client, id);
    channel?.close();
    return channel !== undefined;
  }

  /** `undefined`: it can be written to. Otherwise the connection is ended: whatever was asked for on it may run. */
  #faultIfUnwritable(channel: ClientChannel): Extract<Started, { kind: 'lost' }> | undefined {
    const { packetSize } = (channel as ClientChannel & { outgoing: { packetSize: number } }).outgoing;
    if (packetSize >= SMALLEST_PACKET_BYTES) return undefined;
    this.fault();
    return { kind: 'lost', error: new Error(`the host takes only ${packetSize} bytes at once`) };
  }

  /** It is not to be trusted any more, and is gone at once. */
  fault(error: Error = new Error('the connection is gone')): void {
    // Not the client's own `destroy`, which leaves a stream alone that it has ended already.
    this.#stream.destroy();
    this.#lose(error);
  }

  /** Ends it in good order, without waiting for the other side: one that has fallen silent never says good-bye. */
  end(): void {
    if (!this.isUsable) return;
    const patience = this.#clock.setTimer(GOODBYE_MS, () => this.fault());
    this.#stream.once('close', () => patience.cancel());
    this.#client.end();
    this.#lose(new Error('the connection was ended'));
  }

  #lose(error: Error): void {
    this.#gone.abort(error);
  }
}

type SessionClock = Pick<Clock, 'monotonic' | 'setTimer'>;

interface Parts {
  readonly client: Client;
  readonly bounds: HostBounds;
  readonly clock: SessionClock;
}
