import type { IncomingMessage } from 'node:http';

import type { WebSocket } from 'ws';

import { terminal } from '../../domain/errors.ts';
import { onAbort } from '../../ports/abort.ts';
import type { KubeConnection } from './kube-connection.ts';

export interface SocketRequest {
  /** From the root, as of other requests. */
  readonly path: string;
  /** A name may occur more than once. */
  readonly query: readonly (readonly [name: string, value: string])[];
  /** The one subprotocol that will do; left out: none is asked for. */
  readonly protocol?: string;
  /** Says that it comes from where it goes: a watch is opened to nobody who says nothing of that. */
  readonly sameOrigin?: true;
}

/** Frames of the API server are of some KiB. */
const LARGEST_MESSAGE_BYTES = 16 * 1024 * 1024;
/** The other side closes within a round trip; after this the connection is cut. */
const CLOSE_TIMEOUT_MS = 2_000;

/**
 * Opens a WebSocket to the API server, on a connection of its own. It is paused: whoever has put ears to it resumes it, and misses nothing.
 * Cut when `until` aborts before it is open. Throws what `refusal` makes of an answer that is none, and errors of the connection.
 */
export async function openSocket(
  { server, tls, headers }: KubeConnection,
  { path, query, protocol, sameOrigin }: SocketRequest,
  refusal: (response: IncomingMessage) => Promise<Error>,
  until: AbortSignal,
): Promise<WebSocket> {
  const { WebSocket: Socket } = await import('ws');
  until.throwIfAborted();
  const url = new URL(server.pathname.replace(/\/$/, '') + path, server);
  url.protocol = server.protocol === 'http:' ? 'ws:' : 'wss:';
  for (const [name, value] of query) url.searchParams.append(name, value);
  const settings = {
    ...tls,
    ...(sameOrigin && { origin: server.origin }),
    headers: { ...headers, 'User-Agent': 'plugset' },
    perMessageDeflate: false,
    maxPayload: LARGEST_MESSAGE_BYTES,
    closeTimeout: CLOSE_TIMEOUT_MS,
  };
  const socket = new Socket(url, protocol === undefined ? [] : [protocol], settings);
  return await new Promise((resolve, reject) => {
    const unlink = onAbort(until, () => {
      socket.terminate();
      reject(until.reason as Error);
    });
    let isOld = false;
    socket.once('upgrade', (response) => (isOld = response.headers['sec-websocket-protocol'] === undefined));
    socket.once('open', () => {
      unlink();
      socket.pause();
      resolve(socket);
    });
    // Also those that come later, of which the close tells.
    socket.on('error', (error) => {
      unlink();
      reject(isOld && protocol !== undefined ? tooOld(server, protocol) : error);
    });
    // Without an ear for it, `ws` drops the answer and says only its number.
    socket.once('unexpected-response', (_request, response: IncomingMessage) => {
      // Once the answer was read it belongs to no request any more, and the other side may keep it open as long as it likes.
      const connection = response.socket;
      const end = (): void => {
        unlink();
        connection.destroy();
      };
      void refusal(response).finally(end).then(reject, reject);
    });
  });
}

function tooOld(server: URL, protocol: string): Error {
  return terminal(
    'Unreachable',
    `the Kubernetes API at ${server.host}, or a gateway before it, does not speak ${protocol}: plugset needs Kubernetes 1.30 or newer`,
  );
}
