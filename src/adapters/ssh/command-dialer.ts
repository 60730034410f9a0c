import type { Duplex } from 'node:stream';

import type { ClientChannel } from 'ssh2';

import { aborted, transient, type ReconcileError } from '../../domain/errors.ts';
import { printable } from '../../domain/text.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { SshEndpoint } from '../../ports/ssh-endpoint.ts';
import type { StreamDialer } from '../../ports/stream-dialer.ts';
import { ChannelStream } from './channel-stream.ts';
import { NotSent, withFreshLease, type LeaseParts } from './fresh-lease.ts';
import type { Lease } from './session-pool.ts';

/** A host answers at once, or its connection is dead. */
const START_TIMEOUT_MS = 10_000;
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
  readonly #parts: LeaseParts;

  constructor(options: CommandDialerOptions, parts: LeaseParts) {
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
      return await withFreshLease(this.#parts, { endpoint, use: 'commands' }, signal, (lease) =>
        this.#startOn(lease, signal),
      );
    } catch (error) {
      if (signal.aborted) throw aborted(`nobody waits for ${endpoint.description} any more`, error);
      if (!(error instanceof NotSent)) throw error;
      throw this.#failure('it could not be started: the connection breaks, or the host has no room for it');
    }
  }

  async #startOn({ session, release }: Lease, signal: AbortSignal): Promise<Duplex> {
    const deadline = new Deadline(this.#parts.clock, START_TIMEOUT_MS, signal);
    const started = await session.start(this.#options.command, deadline.signal).finally(() => deadline.clear());
    if (started.kind === 'running') {
      const { channel } = started;
      const stream = new ChannelStream(channel, session, this.#whyEnded(channel));
      // Not when nobody reads it any more: for the host it counts until it has ended.
      channel.once('close', release);
      return stream;
    }
    // The next one would wait as long, and take as many of the commands of others with it.
    if (started.kind === 'lost' || deadline.cause === 'expired') throw this.#failure('the host does not answer');
    throw new NotSent(started.error);
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
