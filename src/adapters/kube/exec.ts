import { randomBytes } from 'node:crypto';
import { Writable } from 'node:stream';

import type { RawData, WebSocket } from 'ws';

import { ReconcileError } from '../../domain/errors.ts';
import type { Deadline } from '../../ports/deadline.ts';
import { CappedOutput, feedStdin } from '../../ports/run-streams.ts';
import type { RunAs } from '../../ports/workspace-target.ts';
import { EndedOutput } from './ended-output.ts';
import { execCommand } from './exec-command.ts';
import type { KubeClient } from './kube-client.ts';
import { Silence } from './silence.ts';

/** One container of one pod. */
export interface ContainerPlace {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
}

export interface ExecOptions {
  readonly as: RunAs;
  /** A word that occurs nowhere else: the processes of the run are found by it. */
  readonly mark: string;
  readonly stdin?: AsyncIterable<Uint8Array> | undefined;
  readonly maxOutputBytes?: number | undefined;
}

/** How far a command got. Only `exited` and `lost` mean that it was started, or may have been. */
export type ExecEnd =
  | { readonly kind: 'exited'; readonly code: number; readonly stdout: Buffer; readonly stderr: Buffer }
  /** For certain nothing was started: no connection, or one that ended too soon. */
  | { readonly kind: 'unsent'; readonly error: unknown; readonly ours: boolean }
  /** The container runs as `who`, `uid:gid`, and that one cannot become who was asked for. */
  | { readonly kind: 'unable'; readonly who: string }
  /** The runtime of the container would not start a shell there: there is none, or the container has ended. */
  | { readonly kind: 'unstarted'; readonly status: string }
  /** It may run. `ours`: we ended it (deadline, abort, output cap, broken stdin) and not the transport. */
  | { readonly kind: 'lost'; readonly error: unknown; readonly ours: boolean };

/** The only version that can end stdin and go on listening. */
const PROTOCOL = 'v5.channel.k8s.io';
const [STDIN, STDOUT, STDERR, STATUS, CLOSE] = [0, 1, 2, 3, 255] as const;
const NORMAL = 1000;

/** How a command answers before it is let begin; with anything else it is none of ours. */
const GREETING = /^([\w-]{1,64}) (begins|refused)(?: (\d{1,10}:\d{1,10}))?$/;
const LONGEST_GREETING = 128;

/** The largest frame that is sent; all of it is held on the way. */
const FRAME_BYTES = 64 * 1024;
/** Gateways end what says nothing for a minute or so. */
const PING_MS = 15_000;
/** A peer that answers no ping for so long is gone. Where a command leaves its stdin unread, pings wait behind that. */
const SILENCE_MS = 60_000;

/** One command in one container. */
export async function execute(
  client: KubeClient,
  place: ContainerPlace,
  argv: readonly string[],
  options: ExecOptions,
  deadline: Deadline,
): Promise<ExecEnd> {
  const command = execCommand(argv, options.as, options.mark);
  const { namespace, pod, container } = place;
  let socket: WebSocket;
  try {
    socket = await client.connect(
      {
        path: `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}/exec`,
        query: [
          ['container', container],
          ...['stdin', 'stdout', 'stderr'].map((stream) => [stream, 'true'] as const),
          ...command.argv.map((argument) => ['command', argument] as const),
        ],
        protocol: PROTOCOL,
      },
      deadline.signal,
    );
  } catch (error) {
    return { kind: 'unsent', error, ours: deadline.cause !== undefined };
  }
  return await new Attendance(socket, command.rest, options).attend(client.clock, deadline);
}

type Clock = KubeClient['clock'];

/** Moves bytes both ways until the command has said on both outputs that it has ended. */
class Attendance {
  readonly #socket: WebSocket;
  readonly #options: ExecOptions;
  readonly #rest: Buffer;
  /** With it the command begins and ends; nobody on the target can know it before. */
  readonly #word = randomBytes(16).toString('hex');
  readonly #stdout: EndedOutput;
  readonly #stderr: EndedOutput;
  readonly #over = new AbortController();
  readonly #stdin: StdinFrames;
  /** What came before the command was let begin. */
  #greeting: Buffer | undefined = Buffer.alloc(0);
  #resolve: (end: ExecEnd) => void = () => undefined;

  constructor(socket: WebSocket, rest: Buffer, options: ExecOptions) {
    this.#socket = socket;
    this.#rest = rest;
    this.#options = options;
    this.#stdin = new StdinFrames(socket);
    const { maxOutputBytes } = options;
    this.#stdout = new EndedOutput(new CappedOutput(maxOutputBytes), this.#word);
    this.#stderr = new EndedOutput(new CappedOutput(maxOutputBytes), `${this.#word} `, '.');
  }

  async attend(clock: Clock, deadline: Deadline): Promise<ExecEnd> {
    const socket = this.#socket;
    const silence = new Silence(clock, SILENCE_MS, this.#over.signal);
    const ended = new Promise<ExecEnd>((resolve) => (this.#resolve = resolve));
    socket.on('pong', () => silence.heard());
    socket.on('message', (data) => {
      silence.heard();
      this.#take(data);
    });
    socket.once('close', (code) => this.#break(new Error(`the connection was closed (${code})`), false));
    silence.signal.addEventListener('abort', () => this.#break(silence.signal.reason, false), { once: true });
    deadline.onEnd(() => this.#break(deadline.signal.reason, true));
    const stopPings = pinging(socket, clock);
    socket.resume();
    try {
      const end = await ended;
      // Before it is over the silence must not take the end for one of its own.
      if (end.kind === 'exited') this.#leave();
      else socket.terminate();
      return end;
    } finally {
      stopPings();
      silence.clear();
      this.#over.abort();
    }
  }

  /** The far side only reads what is left of its stdin; nobody waits for it. */
  #leave(): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    if (!this.#stdin.writableEnded) this.#socket.send(Buffer.from([CLOSE, STDIN]), () => undefined);
    this.#socket.close(NORMAL);
  }

  #break(error: unknown, ours: boolean): void {
    this.#resolve({ kind: this.#greeting === undefined ? 'lost' : 'unsent', error, ours });
  }

  #take(data: RawData): void {
    const message = data as Buffer;
    const bytes = message.subarray(1);
    try {
      if (message[0] === STATUS) this.#takeStatus(bytes);
      else if (this.#greeting !== undefined) this.#greet(message[0] === STDOUT ? bytes : Buffer.alloc(0));
      else this.#print(message[0], bytes);
    } catch (error) {
      this.#break(error, error instanceof ReconcileError);
    }
  }

  /** Of a command that was begun it says nothing that the command has not said: the connection closes after it. */
  #takeStatus(bytes: Buffer): void {
    if (this.#greeting !== undefined) this.#resolve({ kind: 'unstarted', status: bytes.toString('utf8') });
  }

  #greet(bytes: Buffer): void {
    const seen = Buffer.concat([this.#greeting ?? Buffer.alloc(0), bytes.subarray(0, LONGEST_GREETING)]);
    const end = seen.indexOf('\n');
    if (end < 0 && seen.length < LONGEST_GREETING) return void (this.#greeting = seen);
    const [, mark, word, who] = GREETING.exec(seen.toString('latin1', 0, Math.max(end, 0))) ?? [];
    if (mark !== this.#options.mark) throw new Error('the container has answered with something else');
    if (word === 'refused') return this.#resolve({ kind: 'unable', who: who ?? 'somebody else' });
    this.#greeting = undefined;
    this.#begin();
  }

  #begin(): void {
    const { stdin } = this.#options;
    feedStdin(this.#stdin, withFirst(this.#rest, `${this.#word}\n`, stdin), this.#over.signal).catch((error: unknown) =>
      this.#break(error, true),
    );
  }

  #print(channel: number | undefined, bytes: Buffer): void {
    if (channel === STDOUT) this.#stdout.push(bytes);
    if (channel === STDERR) this.#stderr.push(bytes);
    const { last: code } = this.#stderr;
    if (code !== undefined && !/^\d{1,3}$/.test(code)) throw new Error('the command has ended with no exit code');
    if (this.#stdout.last === undefined || code === undefined) return;
    this.#resolve({
      kind: 'exited',
      code: Number(code),
      stdout: this.#stdout.toBuffer(),
      stderr: this.#stderr.toBuffer(),
    });
  }
}

/** What is written goes as frames of stdin, each when the one before has left this machine; its end is a frame too. */
class StdinFrames extends Writable {
  readonly #socket: WebSocket;

  constructor(socket: WebSocket) {
    super({ highWaterMark: FRAME_BYTES });
    this.#socket = socket;
    // Why it cannot be written to, the connection tells itself.
    this.on('error', () => undefined);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    for (let start = 0; start < chunk.length; start += FRAME_BYTES) {
      const frame = Buffer.concat([Buffer.from([STDIN]), chunk.subarray(start, start + FRAME_BYTES)]);
      const isLast = start + FRAME_BYTES >= chunk.length;
      this.#socket.send(frame, isLast ? done : undefined);
    }
    if (chunk.length === 0) done();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.send(Buffer.from([CLOSE, STDIN]), done);
  }
}

async function* withFirst(
  rest: Buffer,
  word: string,
  stdin: AsyncIterable<Uint8Array> | undefined,
): AsyncGenerator<Uint8Array> {
  yield Buffer.concat([rest, Buffer.from(word)]);
  if (stdin !== undefined) yield* stdin;
}

/** Returns the way to end it. */
function pinging(socket: WebSocket, clock: Clock): () => void {
  const ping = (): void => {
    if (socket.readyState === socket.OPEN) socket.ping();
    timer = clock.setTimer(PING_MS, ping);
  };
  let timer = clock.setTimer(PING_MS, ping);
  return () => timer.cancel();
}
