import type { Duplex } from 'node:stream';

import type { ClientChannel } from 'ssh2';

import { aborted, transient, type ReconcileError } from '../../domain/errors.ts';
import { printable } from '../../domain/text.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { SshEndpoint } from '../../ports/ssh-endpoint.ts';
import type { StreamDialer } from '../../ports/stream-dialer.ts';
import { ChannelStream } from './channel-stream.ts';
import type { SocketDialerParts } from './socket-dialer.ts';

/** A host answers at once, or its connection is dead. */
const START_TIMEOUT_MS = 10_000;
/** sshd counts what has ended until it has buried it: there may be room a moment later. */
const ATTEMPTS = 10;
const ROOM_MS = 20;
const LONGEST_COMPLAINT = 200;

export interface CommandDialerOptions {
  readonly endpoint: SshEndpoint;
  /** For the login shell as it stands: of a form that means the same to every shell, and nothing of it is data. */
  readonly command: string;
  /** For people: what is said before what became of the command. */
  readonly preface: string;
}

/** To whatever a command of the host passes its stdin and stdout on to. Takes the place of a command on the connection. */
export class CommandDialer implements StreamDialer {
  readonly #options: CommandDialerOptions;
  readonly #parts: SocketDialerParts;

  constructor(options: CommandDialerOptions, parts: SocketDialerParts) {
    this.#options = options;
    this.#parts = parts;
  }

  /**
   * Also throws what a login throws. A command that fails shows when the stream is used: it breaks with a `ReconcileError`, which
   * quotes the command.
   */
  async dial(signal: AbortSignal): Promise<Duplex> {
    const { endpoint } = this.#options;
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
        const stream = await this.#attempt(signal);
        if (stream !== undefined) return stream;
        await this.#parts.clock.sleep(attempt * ROOM_MS, signal);
      }
    } catch (error) {
      if (signal.aborted) throw aborted(`nobody waits for ${endpoint.description} any more`, error);
      throw error;
    }
    throw this.#failure('it could not be started: the connection breaks, or the host has no room for it');
  }

  /** `undefined`: it was not started, and another attempt may have more luck. */
  async #attempt(signal: AbortSignal): Promise<Duplex | undefined> {
    const { endpoint, command } = this.#options;
    const { pool, clock } = this.#parts;
    const { session, release } = await pool.lease(endpoint, 'commands', signal);
    const deadline = new Deadline(clock, START_TIMEOUT_MS, signal);
    const started = await session.start(command, deadline.signal).finally(() => deadline.clear());
    if (started.kind !== 'running') {
      if (session.isUsable) session.commands.shrink();
      release();
      return undefined;
    }
    const { channel } = started;
    // Not when nobody reads it any more: for the host it counts until it has ended.
    channel.once('close', release);
    return new ChannelStream(channel, session, this.#whyEnded(channel));
  }

  /** Resolves when the command has ended, or the channel without a word about it. */
  async #whyEnded(channel: ClientChannel): Promise<ReconcileError | undefined> {
    let complaint = '';
    channel.stderr.on('data', (chunk: Buffer) => {
      if (complaint.length < LONGEST_COMPLAINT) complaint += chunk.toString();
    });
    const code = await new Promise<number | null | undefined>((resolve) => channel.once('close', resolve));
    if (code === 0 || code === undefined) return undefined;
    const [line = ''] = complaint.trim().split('\n');
    const how = code === null ? 'it was killed' : `exit code ${code}`;
    return this.#failure(line === '' ? how : `${how}: ${printable(line.slice(0, LONGEST_COMPLAINT))}`);
  }

  #failure(how: string): ReconcileError {
    const { command, preface } = this.#options;
    return transient('Unreachable', `${preface}, and \`${command}\` reaches nothing there either (${how})`);
  }
}
