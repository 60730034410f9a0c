import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { isDeepStrictEqual } from 'node:util';

import type { KubeConnection } from './kube-connection.ts';

/** Calls at once, and so connections: beyond it the API server would queue them, or refuse. */
const MOST_CONNECTIONS = 16;
/** The API server closes what was idle for 90 s. */
const IDLE_MS = 60_000;
/** The kernel asks a silent peer after this time. */
export const KEEP_ALIVE_MS = 30_000;

/**
 * The one pool of connections for calls. Who is believed and which certificate is shown is settled when a connection is made,
 * so that new ones need a new pool; the token goes with each request.
 */
export class KubeAgents {
  #current: { readonly connection: KubeConnection; readonly agent: HttpAgent } | undefined;

  for(connection: KubeConnection): HttpAgent {
    const { server, tls } = connection;
    const known = this.#current;
    if (known !== undefined) {
      if (known.connection === connection) return known.agent;
      const { server: knownServer, tls: knownTls } = known.connection;
      if (knownServer.origin === server.origin && isDeepStrictEqual(knownTls, tls)) return known.agent;
      retire(known.agent);
    }
    const Agent = server.protocol === 'https:' ? HttpsAgent : HttpAgent;
    const agent = new Agent({
      ...tls,
      keepAlive: true,
      keepAliveMsecs: KEEP_ALIVE_MS,
      maxSockets: MOST_CONNECTIONS,
      // The one used last: in quiet times the others are closed.
      scheduling: 'lifo',
      timeout: IDLE_MS,
    });
    this.#current = { connection, agent };
    return agent;
  }

  /** Cuts what is under way. */
  close(): void {
    this.#current?.agent.destroy();
    this.#current = undefined;
  }
}

/** What is under way ends as it would; no connection is used again. */
function retire(agent: HttpAgent): void {
  agent.maxFreeSockets = 0;
  for (const socket of Object.values(agent.freeSockets).flat()) socket?.destroy();
}
