import type { Algorithms, AnyAuthMethod, Client } from 'ssh2';
import type { Duplex } from 'node:stream';

import { ReconcileError, terminal, transient } from '../../domain/errors.ts';
import { fingerprintOf } from '../../domain/host-key.ts';
import { onAbort } from '../../ports/abort.ts';
import type { PathTrace } from '../../ports/path-trace.ts';
import type { HostKey, SshCredential, SshEndpoint } from '../../ports/ssh-endpoint.ts';
import { hostKeyOf } from './host-key.ts';
import type { Trust } from './host-key-pins.ts';

/** Everything that a login needs, gathered beforehand. */
export interface Login {
  readonly endpoint: SshEndpoint;
  readonly stream: Duplex;
  readonly credential: SshCredential;
  readonly trust: Trust;
  readonly trace?: PathTrace | undefined;
}

/** A silent peer is given up after four of these: half a minute longer than a bad line is silent for. */
const KEEPALIVE_MS = 10_000;
const KEEPALIVES = 3;

/** Resolves with the key of the host once it has let us in. */
export function shakeHands(client: Client, login: Login, signal: AbortSignal): Promise<HostKey> {
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
  if (isRefused) return terminal('AuthenticationFailed', notLetIn(description, user, credential, level), error);
  const how = typeof code === 'string' ? code : (WAYS_TO_FAIL[level ?? ''] ?? level ?? 'no answer');
  return transient('Unreachable', `${description} cannot be logged in to (${how})`, error);
}

/** What the levels of ssh2 mean to whoever reads the message. */
const WAYS_TO_FAIL: Readonly<Record<string, string>> = {
  protocol: 'what answers there hung up, or is no SSH server',
  handshake: 'it has no key exchange, cipher or kind of host key that plugset has too',
};

function notLetIn(description: string, user: string, credential: SshCredential, level: string | undefined): string {
  if (credential.kind === 'agent' && level === 'agent')
    return `the agent at ${credential.socket} gave no key to log in to ${description} with; is it running, and ours to ask?`;
  const key =
    credential.kind === 'agent'
      ? `any key that the agent at ${credential.socket} holds`
      : `the key of ${credential.origin}`;
  return `${description} does not let ${user} in with ${key}: there is no such user, or its public half is not in his authorized_keys`;
}
