import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { isDeepStrictEqual } from 'node:util';

import type { KubeConnection } from './kube-connection.ts';

/** The API server closes what was idle for 90 s. */
const IDLE_MS = 60_000;
/** The kernel asks a silent peer after this time. */
export const KEEP_ALIVE_MS = 30_000;

/**
 * The one pool of connections for calls. Who is believed and which certificate is shown is settled when a connection is made,
 * so that new ones need a new pool; the token goes with each request.
 */
export class KubePool {
  readonly #size: number;
  #current: { readonly connection: KubeConnection; readonly agent: HttpAgent } | undefined;
  /** Those whose last calls are under way. */
  #retired: readonly HttpAgent[] = [];

  /** `size`: connections, and so calls at once. */
  constructor(size: number) {
    this.#size = size;
  }

  for(connection: KubeConnection): HttpAgent {
    const { server, tls } = connection;
    const known = this.#current;
    if (known !== undefined) {
      if (known.connection === connection) return known.agent;
      const { server: knownServer, tls: knownTls } = known.connection;
      if (knownServer.origin === server.origin && isDeepStrictEqual(knownTls, tls)) return known.agent;
      this.#retire(known.agent);
    }
    const Agent = server.protocol === 'https:' ? HttpsAgent : HttpAgent;
    const agent = new Agent({
      ...tls,
      keepAlive: true,
      keepAliveMsecs: KEEP_ALIVE_MS,
      maxSockets: this.#size,
      // The one used last: in quiet times the others are closed.
      scheduling: 'lifo',
      timeout: IDLE_MS,
    });
    this.#current = { connection, agent };
    return agent;
  }

  /** Cuts what is under way. */
  close(): void {
    for (const agent of this.#retired) agent.destroy();
    this.#current?.agent.destroy();
    this.#current = undefined;
    this.#retired = [];
  }

  /** What is under way ends as it would; no connection is used again. */
  #retire(agent: HttpAgent): void {
    agent.maxFreeSockets = 0;
    for (const socket of Object.values(agent.freeSockets).flat()) socket?.destroy();
    this.#retired = [...this.#retired, agent].filter(({ sockets }) => Object.keys(sockets).length > 0);
  }
}
