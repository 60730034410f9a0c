import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import type { KubeObject } from '../../src/adapters/kube/kube-object.ts';
import { answerJson } from './faulty-kube-api.ts';

const PATH = /^\/api\/v1(?:\/namespaces\/([^/]+))?\/pods$/;
/** In place of a namespace. */
export const EVERYWHERE = '*';

interface Asked {
  readonly namespace: string;
  readonly label: string | undefined;
}

/**
 * Lists and watches the pods of each namespace and of all over real HTTP; of selectors it understands those that a label must be
 * there, and others as none.
 */
export class SmallPodsApi {
  /** Of which namespace, for each request in order. */
  readonly lists: string[] = [];
  /** Namespaces whose pods are nobody's to list or watch. */
  readonly refused = new Set<string>();
  readonly #watches = new Map<ServerResponse, Asked>();
  readonly #pods = new Map<string, KubeObject>();
  readonly #server: Server;
  #version = 100;

  private constructor() {
    this.#server = createServer(({ url = '' }, response) => {
      const { pathname, searchParams } = new URL(url, 'http://api');
      const selector = searchParams.get('labelSelector') ?? '=';
      const asked = {
        namespace: PATH.exec(pathname)?.[1] ?? EVERYWHERE,
        label: selector.includes('=') ? undefined : selector,
      };
      const from = searchParams.get('watch') === null ? undefined : Number(searchParams.get('resourceVersion'));
      if (from === undefined) this.lists.push(asked.namespace);
      if (this.refused.has(asked.namespace)) answerJson(response, 403, { reason: 'Forbidden' });
      else if (from === undefined) this.#list(asked, response);
      else this.#watch(asked, from, response);
    });
  }

  static async open(): Promise<SmallPodsApi> {
    const api = new SmallPodsApi();
    api.#server.listen(0, '127.0.0.1');
    await once(api.#server, 'listening');
    return api;
  }

  get url(): URL {
    return new URL(`http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`);
  }

  /** Namespaces whose pods somebody watches now. */
  get watched(): readonly string[] {
    return [...this.#watches.values()].map(({ namespace }) => namespace).toSorted();
  }

  /** Makes or changes a pod that runs, and tells whoever watches. */
  put(namespace: string, name: string, labels: Readonly<Record<string, string>>): void {
    const id = `${namespace}/${name}`;
    const type = this.#pods.has(id) ? 'MODIFIED' : 'ADDED';
    const resourceVersion = String(++this.#version);
    const pod = {
      metadata: { namespace, name, uid: id, resourceVersion, labels },
      spec: { nodeName: 'node', containers: [{ name: 'main' }] },
      status: {
        phase: 'Running',
        containerStatuses: [{ name: 'main', containerID: `containerd://${id}`, state: { running: {} } }],
      },
    };
    this.#pods.set(id, pod);
    for (const [watch, asked] of this.#watches) {
      if (isAsked(pod, asked)) send(watch, type, pod);
    }
  }

  /** Ends the watches of a namespace. */
  endWatches(namespace: string): void {
    for (const [watch, asked] of this.#watches) if (asked.namespace === namespace) watch.end();
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #list(asked: Asked, response: ServerResponse): void {
    answerJson(response, 200, { metadata: { resourceVersion: String(this.#version) }, items: this.#of(asked) });
  }

  #watch(asked: Asked, from: number, response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders();
    this.#watches.set(response, asked);
    response.once('close', () => this.#watches.delete(response));
    for (const pod of this.#of(asked)) {
      if (Number(pod.metadata.resourceVersion) > from) send(response, 'MODIFIED', pod);
    }
  }

  #of(asked: Asked): readonly KubeObject[] {
    return [...this.#pods.values()].filter((pod) => isAsked(pod, asked));
  }
}

function isAsked({ metadata }: KubeObject, { namespace, label }: Asked): boolean {
  if (namespace !== EVERYWHERE && metadata.namespace !== namespace) return false;
  return label === undefined || label in (metadata.labels ?? {});
}

function send(watch: ServerResponse, type: string, object: KubeObject): void {
  watch.write(`${JSON.stringify({ type, object })}\n`);
}
