import { aborted, ReconcileError, terminal, transient } from '../../domain/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { LoginOutcome, Metrics } from '../../ports/metrics.ts';
import { traced, type PathTrace } from '../../ports/path-trace.ts';
import type { SshCredential, SshEndpoint } from '../../ports/ssh-endpoint.ts';
import type { HostKeyPins, Trust } from './host-key-pins.ts';
import { loginError } from './login.ts';
import { SshSession } from './session.ts';

/** Dial, handshake and login; the host may ask others about a key for up to ten seconds. */
const CONNECT_TIMEOUT_MS = 30_000;

/** Who hears of what becomes of connections. */
export interface SessionEars {
  readonly metrics?: Pick<Metrics, 'loggedIn' | 'observeSessions'> | undefined;
  readonly trace?: PathTrace | undefined;
}

export interface ConnectParts {
  readonly clock: Clock;
  readonly pins: HostKeyPins;
  readonly ears: SessionEars;
}

/** Dials a host, logs in and pins its key, step by step as told to whoever traces the way. Throws a `ReconcileError`. */
export async function connectSession(
  parts: ConnectParts,
  endpoint: SshEndpoint,
  signal: AbortSignal,
): Promise<SshSession> {
  const deadline = new Deadline(parts.clock, CONNECT_TIMEOUT_MS, signal);
  const { metrics } = parts.ears;
  try {
    const trust = await trustIn(parts, endpoint, deadline);
    const session = await login(parts, endpoint, trust, deadline);
    await trust.pin(session.hostKey, deadline.signal).catch((error: unknown) => {
      session.end();
      throw error;
    });
    metrics?.loggedIn('ok');
    return session;
  } catch (error) {
    const failure = connectError(endpoint, deadline, error);
    metrics?.loggedIn(outcomeOf(failure));
    throw failure;
  } finally {
    deadline.clear();
  }
}

function trustIn({ pins, ears }: ConnectParts, { hostKeys }: SshEndpoint, deadline: Deadline): Promise<Trust> {
  return traced(ears.trace, 'known keys', async (saw) => {
    saw({ of: hostKeys.name, policy: hostKeys.policy });
    const trust = await deadline.race(pins.trustIn(hostKeys, deadline.signal));
    saw({ known: trust.expected.map(({ type }) => type).join(', ') || 'none', by: trust.basis });
    return trust;
  });
}

async function login(
  { clock, ears: { trace } }: ConnectParts,
  endpoint: SshEndpoint,
  trust: Trust,
  deadline: Deadline,
): Promise<SshSession> {
  const stream = await traced(trace, 'connection', (saw) => {
    saw({ to: endpoint.description });
    return endpoint.dialer.dial(deadline.signal);
  });
  // It may break while the credential is fetched.
  stream.on('error', () => undefined);
  try {
    const credential = await credentialFor(endpoint, deadline, trace);
    // ssh2 waits for ever on a stream that had ended before it came.
    if (stream.destroyed)
      throw loginError({ endpoint, credential }, stream.errored ?? new Error('it ended before the handshake'));
    return await SshSession.open({ endpoint, stream, credential, trust, trace }, clock, deadline.signal);
  } catch (error) {
    stream.destroy();
    throw error;
  }
}

function credentialFor(
  endpoint: SshEndpoint,
  deadline: Deadline,
  trace: PathTrace | undefined,
): Promise<SshCredential> {
  return traced(trace, 'login key', async (saw) => {
    const credential = await deadline.race(endpoint.credential(deadline.signal));
    saw(credential.kind === 'agent' ? { agent: credential.socket } : { from: credential.origin });
    return credential;
  });
}

function outcomeOf({ class: errorClass, reason }: ReconcileError): LoginOutcome {
  if (errorClass === 'aborted') return 'called_off';
  if (reason === 'AuthenticationFailed' || reason === 'LoginKeyRefused') return 'not_let_in';
  return reason === 'HostKeyMismatch' || reason === 'HostKeyUnknown' ? 'host_key' : 'failed';
}

function connectError(endpoint: SshEndpoint, deadline: Deadline, error: unknown): ReconcileError {
  if (deadline.cause === 'aborted') return aborted(`the connection to ${endpoint.description} was called off`, error);
  if (deadline.cause === 'expired')
    return transient('Unreachable', `${endpoint.description} lets nobody in within ${deadline.ms / 1000} s`, error);
  if (error instanceof ReconcileError) return error;
  return terminal('Internal', `the connection to ${endpoint.description} failed in an unforeseen way`, error);
}
