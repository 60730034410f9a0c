import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';

import type { WebSocket } from 'ws';

import { aborted, terminal, transient, waiting, type ReconcileError } from '../../domain/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import { traced, type Facts, type PathTrace, type Saw } from '../../ports/path-trace.ts';
import { printed, quotable } from './quotable.ts';
import { TunnelStream } from './tunnel-stream.ts';

export interface OpenTunnelOptions {
  /** Presigned: it is a secret for as long as it is good. */
  readonly url: string;
  /** For people: `instance i-0123 through endpoint eice-0123`. */
  readonly description: string;
  readonly clock: Clock;
  /** PEM of who may certify the endpoint; left out: whom Node trusts. */
  readonly ca?: string | undefined;
  /** Called whenever something goes through. */
  readonly onUse?: (() => void) | undefined;
  readonly trace?: PathTrace | undefined;
}

/** From the first packet to the answer. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** The other side closes within a round trip; after this the connection is cut. */
const CLOSE_TIMEOUT_MS = 2_000;
const LARGEST_MESSAGE_BYTES = 16 * 1024 * 1024;
const LARGEST_REFUSAL_BYTES = 16 * 1024;
const BUSY_RETRY_MS = 15_000;

/**
 * Opens the tunnel as a stream. Throws `Unreachable`, `EndpointBusy` or `Throttled` (may pass), `AccessDenied`,
 * `AuthenticationFailed` (terminal), `aborted`. An instance that cannot be reached shows only later: the
 * endpoint opens the tunnel first, and then closes it.
 *
 * Through no proxy: `ws` would need an agent for that, and nobody has asked for it yet.
 */
export function openTunnel(options: OpenTunnelOptions, signal: AbortSignal): Promise<Duplex> {
  return traced(options.trace, 'tunnel', (saw) => open(options, saw, signal));
}

async function open(options: OpenTunnelOptions, saw: Saw, signal: AbortSignal): Promise<Duplex> {
  const { WebSocket: Socket } = await import('ws');
  const { url, clock, ca } = options;
  // `ws` would throw it with the whole address.
  if (!URL.canParse(url))
    throw transient('Unreachable', `the endpoint of ${options.description} has a name that is none`);
  const deadline = new Deadline(clock, HANDSHAKE_TIMEOUT_MS, signal);
  const settings = {
    perMessageDeflate: false,
    closeTimeout: CLOSE_TIMEOUT_MS,
    maxPayload: LARGEST_MESSAGE_BYTES,
    ...(ca === undefined ? {} : { ca }),
  };
  const socket = new Socket(url, settings);
  try {
    const stream = await deadline.race(opened(socket, options, saw));
    tellEnd(socket, options);
    if (stream.errored !== null) throw stream.errored;
    return stream;
  } catch (error) {
    socket.terminate();
    if (deadline.cause === 'aborted') throw aborted(`opening a tunnel to ${options.description} was called off`);
    if (deadline.cause === 'expired') {
      const text = `the endpoint did not open a tunnel to ${options.description} within ${deadline.ms} ms`;
      throw transient('Unreachable', text);
    }
    throw error;
  } finally {
    deadline.clear();
  }
}

/** Tells when and how a tunnel that was open has ended. */
function tellEnd(socket: WebSocket, { url, trace }: OpenTunnelOptions): void {
  if (trace === undefined) return;
  void traced(trace, 'tunnel closed', async (saw) => {
    const [code, reason] = await new Promise<[number, Buffer]>((resolve) => {
      socket.once('close', (...how) => resolve(how));
    });
    saw({ code, reason: quotable(reason.toString(), url) || undefined });
  });
}

function opened(socket: WebSocket, { url, description, onUse }: OpenTunnelOptions, saw: Saw): Promise<TunnelStream> {
  return new Promise((resolve, reject) => {
    socket.once('upgrade', (response) => saw(answered(response)));
    // At once: the first message may have come in the same packet as the answer to the upgrade.
    socket.once('open', () => resolve(new TunnelStream(socket, { url, description, onUse })));
    socket.on('error', (error) => reject(unreachable(error, description)));
    // Without an ear for it, `ws` drops the answer and says only its number.
    socket.once('unexpected-response', (_request, response: IncomingMessage) => {
      void refused(response, { url, description }, saw).then(reject);
    });
  });
}

async function refused(
  response: IncomingMessage,
  { url, description }: Pick<OpenTunnelOptions, 'url' | 'description'>,
  saw: Saw,
): Promise<ReconcileError> {
  const body = await bodyOf(response);
  saw({ ...answered(response), code: codeIn(body), message: messageIn(body, url) });
  return refusal(response, body, description);
}

/** What the system says of a connection, by its code: its text could name the address, and that is a secret. */
function unreachable(error: unknown, description: string): ReconcileError {
  const { code = 'no WebSocket' } = error as { code?: string };
  if (/CERT/.test(code)) {
    return terminal(
      'AuthenticationFailed',
      `the endpoint of ${description} has a certificate that nobody trusts (${code})`,
    );
  }
  return transient('Unreachable', `no connection to the endpoint of ${description} (${code})`);
}

/** As much of it as a refusal can be; what cannot be read is empty. */
async function bodyOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > LARGEST_REFUSAL_BYTES) break;
      chunks.push(chunk);
    }
  } catch {
    return '';
  }
  return Buffer.concat(chunks).toString();
}

const DENIED = /^(?:AccessDenied|UnauthorizedOperation|NotAuthorized)/;
const BAD_CREDENTIAL =
  /^(?:Auth|InvalidSignature|SignatureDoesNotMatch|UnrecognizedClient|InvalidClientTokenId|MissingAuth)/;
const OLD_CREDENTIAL = /^(?:ExpiredToken|RequestExpired)/;
const THROTTLED = /Throttl/;
const BUSY = /Limit|Quota|TooMany/;

/** How the service says that all tunnels of an endpoint are taken is not documented, so whatever sounds like it counts. */
function refusal(response: IncomingMessage, body: string, description: string): ReconcileError {
  const { statusCode: status = 0, headers } = response;
  const code = codeIn(body) ?? '';
  // Differs every time, so it is for the log and not for a condition.
  const cause = new Error(`request ${String(headers['x-amzn-requestid'])}`);
  const how = code === '' ? `HTTP ${status}` : `HTTP ${status}, ${code}`;
  const said = `the endpoint refused a tunnel to ${description} (${how})`;
  if (OLD_CREDENTIAL.test(code)) return transient('AuthenticationFailed', said, cause);
  if (BAD_CREDENTIAL.test(code)) return terminal('AuthenticationFailed', said, cause);
  if (THROTTLED.test(code)) return transient('Throttled', said, cause);
  if (status === 429 || status === 503 || BUSY.test(code)) return waiting('EndpointBusy', said, BUSY_RETRY_MS, cause);
  if (DENIED.test(code) || status === 401 || status === 403) {
    const action = 'ec2-instance-connect:OpenTunnel';
    return terminal('AccessDenied', `AWS does not let the credential of plugset do ${action}: ${said}`, cause);
  }
  // Also InvalidParameter: all of them come from what AWS said a moment ago, as of an instance that has just gone.
  return transient('Unreachable', said, cause);
}

function answered({ statusCode: status, headers }: IncomingMessage): Facts {
  const request = headers['x-amzn-requestid'];
  return { status, request: typeof request === 'string' ? printed(request) : undefined };
}

/** `{"ErrorCode": "InvalidParameter", "Message": …}`; the message is not repeated in errors, since it differs. */
function codeIn(body: string): string | undefined {
  const code = fieldOf(body, 'ErrorCode');
  return code !== undefined && /^[A-Za-z0-9._-]{1,100}$/.test(code) ? code : undefined;
}

function messageIn(body: string, url: string): string | undefined {
  const message = fieldOf(body, 'Message');
  return message === undefined ? undefined : quotable(message, url);
}

function fieldOf(body: string, name: string): string | undefined {
  try {
    const value = (JSON.parse(body) as Readonly<Record<string, unknown>> | null)?.[name];
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}
