import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import type { KubeObject } from '../../src/adapters/kube/kube-object.ts';
import { answerJson } from './faulty-kube-api.ts';

const PATH = /^\/api\/v1\/namespaces\/([^/]+)\/pods$/;

/** Lists and watches the pods of each namespace over real HTTP; understands no selector, so every pod is in every answer. */
export class SmallPodsApi {
  /** Of which namespace, for each request in order. */
  readonly lists: string[] = [];
  readonly #watches = new Map<ServerResponse, string>();
  readonly #pods = new Map<string, KubeObject>();
  readonly #server: Server;
  #version = 100;

  private constructor() {
    this.#server = createServer(({ url = '' }, response) => {
      const { pathname, searchParams } = new URL(url, 'http://api');
      const namespace = PATH.exec(pathname)?.[1] ?? '';
      if (searchParams.has('watch')) this.#watch(namespace, Number(searchParams.get('resourceVersion')), response);
      else this.#list(namespace, response);
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
    return [...this.#watches.values()].toSorted();
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
    for (const [watch, its] of this.#watches) {
      if (its === namespace) send(watch, type, pod);
    }
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #list(namespace: string, response: ServerResponse): void {
    this.lists.push(namespace);
    answerJson(response, 200, { metadata: { resourceVersion: String(this.#version) }, items: this.#of(namespace) });
  }

  #watch(namespace: string, from: number, response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders();
    this.#watches.set(response, namespace);
    response.once('close', () => this.#watches.delete(response));
    for (const pod of this.#of(namespace)) {
      if (Number(pod.metadata.resourceVersion) > from) send(response, 'MODIFIED', pod);
    }
  }

  #of(namespace: string): readonly KubeObject[] {
    return [...this.#pods.values()].filter(({ metadata }) => metadata.namespace === namespace);
  }
}

function send(watch: ServerResponse, type: string, object: KubeObject): void {
  watch.write(`${JSON.stringify({ type, object })}\n`);
}
