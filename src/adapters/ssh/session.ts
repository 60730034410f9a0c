import { setMaxListeners } from 'node:events';
import type { Duplex } from 'node:stream';

import type { Algorithms, AnyAuthMethod, Client, ClientChannel } from 'ssh2';

import { ReconcileError, terminal, transient } from '../../domain/errors.ts';
import { fingerprintOf } from '../../domain/host-key.ts';
import { onAbort } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import { traced, type PathTrace } from '../../ports/path-trace.ts';
import type { HostKey, SshCredential, SshEndpoint } from '../../ports/ssh-endpoint.ts';
import { ChannelStream } from './channel-stream.ts';
import { hostKeyOf } from './host-key.ts';
import type { Trust } from './host-key-pins.ts';
import { Slots } from './slots.ts';

/** sshd allows 10 channels on one connection (MaxSessions) … */
const COMMANDS_AT_ONCE = 8;
/** … of which some are kept for ending commands. */
const KILLS_AT_ONCE = 2;
/** Channels to sockets do not count for MaxSessions; each costs the host two descriptors, of which sshd has 1024. */
const STREAMS_AT_ONCE = 64;

/** A host that takes no bytes in one packet has ssh2 cut up what it is sent for ever; one that takes few costs a packet for each. */
const SMALLEST_PACKET_BYTES = 1024;

/** A silent peer is given up after four of these: half a minute longer than a bad line is silent for. */
const KEEPALIVE_MS = 10_000;
const KEEPALIVES = 3;

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
  readonly #client: Client;
  readonly #stream: Duplex;
  readonly #gone = new AbortController();

  private constructor(client: Client, { stream, trust }: Login, hostKey: HostKey, openedMs: number) {
    this.#client = client;
    this.#stream = stream;
    this.hostKey = hostKey;
    this.isVerified = trust.isVerified;
    this.openedMs = openedMs;
    this.gone = this.#gone.signal;
    // Every stream on it wants to know.
    setMaxListeners(0, this.gone);
    client.once('close', () => this.#lose());
    client.on('error', () => this.#lose());
  }

  /**
   * Shakes hands over `stream` and logs in. Rejects with the reason of `signal` when that aborts; the stream is the caller's to end then.
   */
  static async open(login: Login, clock: Pick<Clock, 'monotonic'>, signal: AbortSignal): Promise<SshSession> {
    // Loaded late, like every client of a back end that may not be in use. CommonJS, with names that Node does not detect.
    const { default: ssh2 } = await import('ssh2');
    const client = new ssh2.Client();
    // ssh2 emits two errors for one handshake that took too long; one without a listener would end the process.
    client.on('error', () => undefined);
    try {
      const hostKey = await traced(login.trace, 'login', (saw) => {
        saw({ user: login.endpoint.user });
        return shakeHands(client, login, signal);
      });
      return new SshSession(client, login, hostKey, clock.monotonic());
    } catch (error) {
      client.destroy();
      throw error;
    }
  }

  get isUsable(): boolean {
    return !this.gone.aborted;
  }

  /** Asks for `text` to be run. A command that is called off before it is certain to be started ends the connection. */
  start(text: string, signal: AbortSignal): Promise<Started> {
    return new Promise((resolve) => {
      let isOpen = false;
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
          if (error === undefined) resolve(this.#refused(channel) ?? { kind: 'running', channel });
          else if (this.isUsable) resolve({ kind: 'unsent', error });
          else missed(error);
        });
      } catch (error) {
        unlink();
        // Thrown rather than handed over when the connection has ended already.
        resolve({ kind: 'unsent', error });
      }
    });
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
          const refused = error === undefined ? this.#refused(channel) : { error };
          if (refused !== undefined) return failed(refused.error);
          unlink();
          const stream = new ChannelStream(channel, this.gone);
          // Nobody waits for it any more.
          if (signal.aborted) stream.destroy();
          resolve(stream);
        });
      } catch (error) {
        failed(error);
      }
    });
  }

  /** `undefined`: it can be written to. Otherwise the connection is ended: whatever was asked for on it may run. */
  #refused(channel: ClientChannel): Extract<Started, { kind: 'lost' }> | undefined {
    const { packetSize } = (channel as ClientChannel & { outgoing: { packetSize: number } }).outgoing;
    if (packetSize >= SMALLEST_PACKET_BYTES) return undefined;
    this.fault();
    return { kind: 'lost', error: new Error(`the host takes only ${packetSize} bytes at once`) };
  }

  /** It is not to be trusted any more, and is gone at once. */
  fault(): void {
    // Not the client's own `destroy`, which leaves a stream alone that it has ended already.
    this.#stream.destroy();
    this.#lose();
  }

  /** Ends it in good order, without waiting for the other side: one that has fallen silent never says good-bye. */
  end(): void {
    this.#stream.once('finish', () => this.#stream.destroy());
    this.#client.end();
    this.#lose();
  }

  #lose(): void {
    this.#gone.abort(new Error('the connection is gone'));
  }
}

/** Everything that a login needs, gathered beforehand. */
export interface Login {
  readonly endpoint: SshEndpoint;
  readonly stream: Duplex;
  readonly credential: SshCredential;
  readonly trust: Trust;
  readonly trace?: PathTrace | undefined;
}

function shakeHands(client: Client, login: Login, signal: AbortSignal): Promise<HostKey> {
  const { endpoint, stream, credential, trust } = login;
  const tellKey = keyTeller(login);
  return new Promise((resolve, reject) => {
    let presented: HostKey | undefined;
    let refused: ReconcileError | undefined;
    const unlink = onAbort(signal, () => reject(signal.reason as Error));
    const fail = (error: unknown): void => {
      unlink();
      reject(refused ?? loginError(login, error));
    };
    client.once('error', fail);
    client.once('close', () => fail(new Error('the connection ended before the login')));
    client.once('ready', () => {
      unlink();
      if (presented === undefined) fail(new Error('the host showed no key'));
      else resolve(presented);
    });
    try {
      client.connect({
        sock: stream,
        username: endpoint.user,
        authHandler: [authentication(endpoint.user, credential)],
        // ssh2's own timer would be a second one beside the deadline of whoever calls.
        readyTimeout: 0,
        keepaliveInterval: KEEPALIVE_MS,
        keepaliveCountMax: KEEPALIVES,
        algorithms: { ...ALGORITHMS, serverHostKey: keyAlgorithms(trust.expected) },
        // Called again with every new exchange of keys: one host does not become another in between.
        hostVerifier: (blob: Buffer) => {
          const key = hostKeyOf(blob);
          const isFirst = presented === undefined;
          const isSame = isFirst || presented?.key === key.key;
          if (isSame && trust.accepts(key)) presented = key;
          else refused = trust.refusal(key);
          if (isFirst) tellKey(key, refused);
          return refused === undefined;
        },
      });
    } catch (error) {
      fail(error);
    }
  });
}

/** Tells what a host has shown and why that is believed or not. The verifier of ssh2 is no work that could be awaited. */
function keyTeller({ endpoint, trust, trace }: Login): (key: HostKey, error: ReconcileError | undefined) => void {
  if (trace === undefined) return () => undefined;
  const { clock } = trace;
  const startedMs = clock.monotonic();
  return (key, error) => {
    const { policy } = endpoint.hostKeys;
    const facts = {
      type: key.type,
      fingerprint: fingerprintOf(key),
      policy,
      verified: trust.isVerified,
      by: trust.basis,
    };
    const ms = clock.monotonic() - startedMs;
    trace.onStep({ step: 'host key', ms, facts, ...(error === undefined ? {} : { error }) });
  };
}

/** No `none` first: it costs a round trip and counts as a failed attempt. */
function authentication(username: string, credential: SshCredential): AnyAuthMethod {
  if (credential.kind === 'agent') return { type: 'agent', username, agent: credential.socket };
  return { type: 'publickey', username, key: credential.privateKey };
}

/** Deflating what is a tar of small files anyway costs more than it saves on every line but the slowest. */
const ALGORITHMS: Pick<Algorithms, 'kex' | 'cipher' | 'compress'> = {
  kex: ['curve25519-sha256', 'curve25519-sha256@libssh.org', 'ecdh-sha2-nistp256'],
  cipher: ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'chacha20-poly1305@openssh.com', 'aes128-ctr'],
  compress: ['none'],
};

const HOST_KEY_ALGORITHMS = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
] as const;

type HostKeyAlgorithm = (typeof HOST_KEY_ALGORITHMS)[number];

/**
 * Those of the keys that are expected come first, so that the host shows one of them if it has one. The others stay on
 * the list: a host that has none is then a mismatch with a name, and not a handshake that failed.
 */
function keyAlgorithms(expected: readonly HostKey[]): HostKeyAlgorithm[] {
  const isExpected = (algorithm: string): boolean =>
    expected.some(({ type }) => type === algorithm || (type === 'ssh-rsa' && algorithm.startsWith('rsa-')));
  return [
    ...HOST_KEY_ALGORITHMS.filter(isExpected),
    ...HOST_KEY_ALGORITHMS.filter((algorithm) => !isExpected(algorithm)),
  ];
}

/** By the level that ssh2 gives an error; a way that knows more than that has said so itself. */
export function loginError(
  { endpoint, credential }: Pick<Login, 'endpoint' | 'credential'>,
  error: unknown,
): ReconcileError {
  const { description, user } = endpoint;
  if (error instanceof ReconcileError) return error;
  const { level, code } = error as { readonly level?: string; readonly code?: string | number };
  const isRefused = level === 'client-authentication' || level === 'agent';
  if (isRefused && credential.kind === 'key' && credential.isShortLived === true)
    return transient('LoginKeyRefused', `${description} does not let ${user} in with the key of this login`, error);
  if (isRefused)
    return terminal('AuthenticationFailed', `${description} does not let ${user} in with the key it was shown`, error);
  const how = typeof code === 'string' ? code : (level ?? 'no answer');
  return transient('Unreachable', `${description} cannot be logged in to (${how})`, error);
}
