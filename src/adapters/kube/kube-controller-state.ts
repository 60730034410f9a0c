import { randomUUID } from 'node:crypto';

import { hexOf, sha256 } from '../../domain/digest.ts';
import { transient } from '../../domain/errors.ts';
import type { ControllerState, StateDocument } from '../../ports/controller-state.ts';
import { encodeStateDocument, parseStateKey } from '../../ports/state-document.ts';
import type { KubeClient, KubeRequest } from './kube-client.ts';
import type { KubeObject } from './kube-object.ts';
import { KubeRefusal } from './kube-refusal.ts';
import { listPages } from './list-pages.ts';
import { answered } from './store-answer.ts';

export interface KubeControllerStateOptions {
  /** Shared; whoever opened it closes it. */
  readonly client: KubeClient;
  /** Where the documents are: the controller's own. */
  readonly namespace: string;
}

const FOLDER_LABEL = 'plugset.dev/state-folder';
/** New with every write: the API server gives no new version to an object that is written as it was. */
const WRITE_ANNOTATION = 'plugset.dev/write';
const MANAGED_BY = { 'app.kubernetes.io/managed-by': 'plugset' };

/** A version of ours, so that the API server is never asked whether some other text is one. */
const VERSION = /^rv([^ ]+)$/;

const PAGE_SIZE = 500;

interface ConfigMap extends KubeObject {
  readonly data?: { readonly key?: string; readonly document?: string };
}

/**
 * Each document is a ConfigMap `plugset-state-<digest of its key>`, since keys are longer than names may be and have other
 * characters. The version is the object's own, which etcd never gives twice, not even to the next object of that name.
 */
export class KubeControllerState implements ControllerState {
  readonly #client: KubeClient;
  readonly #namespace: string;

  constructor({ client, namespace }: KubeControllerStateOptions) {
    this.#client = client;
    this.#namespace = namespace;
  }

  async get(key: string, signal: AbortSignal): Promise<StateDocument | undefined> {
    parseStateKey(key);
    const found = await this.#unless([404], { method: 'GET', path: this.#pathOf(key) }, signal);
    return found === undefined ? undefined : { value: valueIn(found, key), version: versionOf(found) };
  }

  async compareAndSwap(
    key: string,
    expected: string | undefined,
    value: unknown,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const [folder = ''] = parseStateKey(key);
    const document = encodeStateDocument(key, value);
    const metadata = {
      name: nameOf(key),
      labels: { ...MANAGED_BY, [FOLDER_LABEL]: shortHashOf(folder) },
      annotations: { [WRITE_ANNOTATION]: randomUUID() },
    };
    const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { key, document } };
    if (expected === undefined) {
      return this.#write({ method: 'POST', path: this.#path, body }, signal);
    }
    const resourceVersion = VERSION.exec(expected)?.[1];
    if (resourceVersion === undefined) return undefined;
    const replaced = { ...body, metadata: { ...metadata, resourceVersion } };
    return this.#write({ method: 'PUT', path: this.#pathOf(key), body: replaced }, signal);
  }

  async list(folder: string, signal: AbortSignal): Promise<readonly string[]> {
    parseStateKey(folder);
    const keys: string[] = [];
    const collection = { path: this.#path, query: { labelSelector: `${FOLDER_LABEL}=${shortHashOf(folder)}` } };
    await answered(
      listPages(this.#client, collection, { pageSize: PAGE_SIZE, signal }, () => {
        keys.length = 0;
        return ({ data }: ConfigMap) => {
          if (data?.key?.startsWith(`${folder}/`)) keys.push(data.key);
        };
      }),
      signal,
    );
    return keys;
  }

  async remove(key: string, expected: string, signal: AbortSignal): Promise<boolean> {
    parseStateKey(key);
    const resourceVersion = VERSION.exec(expected)?.[1];
    if (resourceVersion === undefined) return false;
    const body = { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { resourceVersion } };
    const removed = await this.#unless([404, 409], { method: 'DELETE', path: this.#pathOf(key), body }, signal);
    return removed !== undefined;
  }

  get #path(): string {
    return `/api/v1/namespaces/${encodeURIComponent(this.#namespace)}/configmaps`;
  }

  #pathOf(key: string): string {
    return `${this.#path}/${nameOf(key)}`;
  }

  /** The new version; `undefined`: somebody was faster. */
  async #write(request: KubeRequest, signal: AbortSignal): Promise<string | undefined> {
    const written = await this.#unless([404, 409], request, signal);
    return written === undefined ? undefined : versionOf(written);
  }

  async #unless(
    refusals: readonly number[],
    request: KubeRequest,
    signal: AbortSignal,
  ): Promise<ConfigMap | undefined> {
    const call = this.#client.call<ConfigMap>(request, signal).catch((thrown: unknown) => {
      if (thrown instanceof KubeRefusal && refusals.includes(thrown.status)) return undefined;
      throw thrown;
    });
    return answered(call, signal);
  }
}

function nameOf(key: string): string {
  return `plugset-state-${hexOf(sha256(key)).slice(0, 40)}`;
}

/** A label's value is short, and has no dot at its end. */
function shortHashOf(folder: string): string {
  return hexOf(sha256(folder)).slice(0, 40);
}

function versionOf({ metadata }: ConfigMap): string {
  return `rv${metadata.resourceVersion}`;
}

function valueIn({ data }: ConfigMap, key: string): unknown {
  try {
    return JSON.parse(data?.document ?? '');
  } catch (error) {
    throw transient('StoreUnavailable', `the state document ${key} in ConfigMap ${nameOf(key)} is no JSON`, error);
  }
}
