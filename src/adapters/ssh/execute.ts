import { constants } from 'node:os';

import type { ClientChannel } from 'ssh2';

import { ReconcileError } from '../../domain/errors.ts';
import type { Deadline } from '../../ports/deadline.ts';
import { CappedOutput, feedStdin } from '../../ports/run-streams.ts';
import { MarkedOutput } from './marked-output.ts';
import { commandText } from './quote.ts';
import type { SshSession } from './session.ts';

export interface ExecOptions {
  /** A word that occurs nowhere else; see {@link commandText}. */
  readonly mark: string;
  /** `NAME=value`, for its environment. */
  readonly settings?: readonly string[] | undefined;
  readonly stdin?: AsyncIterable<Uint8Array> | undefined;
  readonly maxOutputBytes?: number | undefined;
}

/** How far a command got. */
export type ExecEnd =
  | { readonly kind: 'exited'; readonly code: number; readonly stdout: Buffer; readonly stderr: Buffer }
  /** The login shell ended without having run anything, with this exit code. */
  | { readonly kind: 'refused'; readonly code: number; readonly stderr: Buffer }
  /** For certain nothing was started. */
  | { readonly kind: 'unsent'; readonly error: unknown }
  /** It may run. `ours`: we ended it (deadline, abort, output cap, broken stdin) and not the transport. */
  | {
      readonly kind: 'lost';
      readonly error: unknown;
      readonly ours: boolean;
      /** Settles when the host has closed the channel, or the connection is gone. */
      readonly closed: Promise<unknown>;
    };

/** One command on one connection. */
export async function execute(
  session: SshSession,
  argv: readonly string[],
  options: ExecOptions,
  deadline: Deadline,
): Promise<ExecEnd> {
  const started = await session.start(commandText(argv, options.mark, options.settings), deadline.signal);
  if (started.kind === 'unsent') return started;
  // Not ours even if we called it off: there is no channel whose end could show that it was killed, and it may start yet.
  if (started.kind === 'lost') return { ...started, ours: false, closed: Promise.resolve() };
  const end = await attend(session, started.channel, options, deadline);
  // Why the connection ended says more than that a channel of it did.
  return end.kind === 'lost' && !end.ours && !session.isUsable ? { ...end, error: session.gone.reason } : end;
}

/** As fast as the host takes it. ssh2 goes by the window alone, and the host may say of that what it likes. */
async function* paced(
  source: AsyncIterable<Uint8Array>,
  session: SshSession,
  over: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    await session.room(chunk.length, over);
    yield chunk;
  }
}

interface Exit {
  readonly code: number | undefined;
}

/** Moves bytes both ways until the host closes its side. */
async function attend(
  session: SshSession,
  channel: ClientChannel,
  options: ExecOptions,
  deadline: Deadline,
): Promise<ExecEnd> {
  const stdout = new MarkedOutput(options.mark, new CappedOutput(options.maxOutputBytes));
  const stderr = new MarkedOutput(options.mark, new CappedOutput(options.maxOutputBytes));
  const over = new AbortController();
  const closed = closeOf(channel);
  const failure = await new Promise<Failure | Exit>((resolve) => {
    const lost = (ours: boolean) => (error: unknown) => resolve({ error, ours });
    // Both are read to their end whatever comes: ssh2 never tells of the end of a channel with something unread.
    const collect = (output: MarkedOutput) => (chunk: Buffer) => {
      if (over.signal.aborted) return;
      try {
        output.push(chunk);
      } catch (error) {
        resolve({ error, ours: error instanceof ReconcileError });
      }
    };
    channel.on('data', collect(stdout));
    channel.stderr.on('data', collect(stderr));
    // A command that ends early leaves us with stdin; what counts is its exit code.
    channel.on('error', () => undefined);
    closed.then(resolve, lost(false));
    deadline.onEnd(() => lost(true)(deadline.signal.reason));
    if (options.stdin === undefined) channel.end();
    else feedStdin(channel, paced(options.stdin, session, over.signal), over.signal).catch(lost(true));
  });
  over.abort();
  if ('error' in failure) return { kind: 'lost', ...failure, closed };
  const { code } = failure;
  if (code === undefined)
    return { kind: 'lost', error: new Error('the connection ended before the command'), ours: false, closed };
  if (!stdout.isMarked) return { kind: 'refused', code, stderr: stderr.unmarked() };
  return { kind: 'exited', code, stdout: stdout.toBuffer(), stderr: stderr.toBuffer() };
}

interface Failure {
  readonly error: unknown;
  readonly ours: boolean;
}

/** A channel that closes without an exit code is one whose connection was lost; often there is no error besides. */
function closeOf(channel: ClientChannel): Promise<Exit> {
  return new Promise((resolve) => {
    channel.once('close', (code?: number | null, signal?: string) => {
      const number = constants.signals[signal as NodeJS.Signals] as number | undefined;
      resolve({ code: code ?? (signal === undefined ? undefined : 128 + (number ?? 0)) });
    });
  });
}
