import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';

/**
 * What is wrong, for people, or `undefined` when all is well. Asked at every request, so it reads state and does no I/O.
 */
export type HealthCheck = () => string | undefined;

export interface TelemetryServerOptions {
  /** Address to listen on. Default 127.0.0.1: what runs where is nobody else's business unless told otherwise. */
  readonly host?: string;
  /** 0: any free one. */
  readonly port: number;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly body: string }>;
  /** By name. One that fails means: restart this process. */
  readonly liveness: Readonly<Record<string, HealthCheck>>;
  /** By name. One that fails means: this process is of no use now. A standby is ready. */
  readonly readiness: Readonly<Record<string, HealthCheck>>;
  /** What `/readyz?verbose` tells besides: what does not work, though this process is of use. Left out: nothing. */
  readonly notes?: () => readonly string[];
  /** What is known of the next pass over a workspace; `undefined`: nothing here. Left out: nobody is told. */
  readonly wakeUp?: (workspace: string) => unknown;
  readonly clock: Clock;
  readonly logger: Logger;
}

const REQUEST_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 30_000;
const CLOSE_GRACE_MS = 2_000;

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly contentType?: string;
}

/** `/metrics`, `/livez`, `/readyz` and `/wakeup` over plain HTTP. */
export class TelemetryServer {
  readonly #options: TelemetryServerOptions;
  readonly #server: Server;

  constructor(options: TelemetryServerOptions) {
    this.#options = options;
    this.#server = createServer(
      {
        headersTimeout: REQUEST_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        connectionsCheckingInterval: REQUEST_TIMEOUT_MS / 2,
        keepAliveTimeout: IDLE_TIMEOUT_MS,
      },
      (request, response) => void this.#respond(request, response),
    );
    // Also ends connections whose reader has stopped reading.
    this.#server.setTimeout(IDLE_TIMEOUT_MS);
    // Without a listener, running out of file descriptors while accepting would end the process.
    this.#server.on('error', (error) =>
      options.logger.warn('the server for metrics and health has a problem', { error }),
    );
  }

  /** Resolves with the address once requests are answered. Rejects when it cannot be had (in use, not allowed). */
  start(): Promise<{ readonly host: string; readonly port: number }> {
    const { host = '127.0.0.1', port } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause: NodeJS.ErrnoException) => {
        reject(new Error(`cannot serve metrics and health on ${host} port ${port}: ${cause.code}`, { cause }));
      });
      this.#server.listen({ host, port }, () => {
        const { address, port: bound } = this.#server.address() as AddressInfo;
        resolve({ host: address, port: bound });
      });
    });
  }

  /** Answers what has been asked, and ends every connection. Idempotent. */
  async close(): Promise<void> {
    const cutOff = this.#options.clock.setTimer(CLOSE_GRACE_MS, () => this.#server.closeAllConnections());
    await new Promise<void>((resolve) => {
      // The only error is that it does not run.
      this.#server.close(() => resolve());
      this.#server.closeIdleConnections();
    });
    cutOff.cancel();
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, body, contentType = 'text/plain; charset=utf-8' } = await this.#answer(request);
    request.resume();
    response.writeHead(status, {
      'content-type': contentType,
      'content-length': Buffer.byteLength(body),
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
      ...(status === 405 && { allow: 'GET, HEAD' }),
    });
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  /** Names of workspaces are nobody's business but of who is on this machine, wherever metrics are served. */
  #wakeUp(request: IncomingMessage, workspace: string): Answer {
    if (!isLocal(request)) return { status: 403, body: 'this is answered on the machine itself only\n' };
    const known = this.#options.wakeUp?.(workspace);
    if (known === undefined) return { status: 503, body: 'this process does not lead, and knows of no pass\n' };
    return { status: 200, contentType: 'application/json', body: `${JSON.stringify(known)}\n` };
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return { status: 405, body: 'only GET is answered here\n' };
    const [path, query] = (request.url ?? '/').split('?', 2);
    const isVerbose = new URLSearchParams(query).has('verbose');
    try {
      switch (path) {
        case '/metrics':
          return { status: 200, ...(await this.#options.metrics()) };
        case '/livez':
          return health('livez', this.#options.liveness, isVerbose);
        case '/readyz':
          return health('readyz', this.#options.readiness, isVerbose, this.#options.notes?.());
        case '/wakeup':
          return this.#wakeUp(request, new URLSearchParams(query).get('workspace') ?? '');
        default:
          return { status: 404, body: 'there are /metrics, /livez and /readyz, the latter two with ?verbose\n' };
      }
    } catch (error) {
      this.#options.logger.error('a request for metrics or health failed', { path, error });
      return { status: 500, body: 'internal error; the log has the details\n' };
    }
  }
}

/** On a connection from this very machine. */
function isLocal({ socket }: IncomingMessage): boolean {
  return /^(?:::1|(?:::ffff:)?127\.\d+\.\d+\.\d+)$/.test(socket.remoteAddress ?? '');
}

/** As Kubernetes answers: one word when all is well and nobody wants to know more, else a line per check. */
function health(
  name: string,
  checks: Readonly<Record<string, HealthCheck>>,
  isVerbose: boolean,
  notes: readonly string[] = [],
): Answer {
  const problems = Object.entries(checks).map(([check, run]) => [check, run()] as const);
  const isHealthy = problems.every(([, problem]) => problem === undefined);
  if (isHealthy && !isVerbose) return { status: 200, body: 'ok' };
  const lines = problems.map(([check, problem]) =>
    problem === undefined ? `[+]${check} ok` : `[-]${check} failed: ${problem}`,
  );
  return {
    status: isHealthy ? 200 : 500,
    body: [...lines, ...notes.map((note) => `[!]${note}`), `${name} check ${isHealthy ? 'passed' : 'failed'}`, ''].join(
      '\n',
    ),
  };
}
