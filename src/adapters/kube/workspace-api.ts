import { ReconcileError, transient } from '../../domain/errors.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import type { KubeClient, KubeRequest } from './kube-client.ts';
import { KubeRefusal } from './kube-refusal.ts';
import { answered } from './store-answer.ts';
import type { WorkspaceResource } from './workspace-object.ts';

const GROUP_PATH = '/apis/plugset.dev/v1alpha1';

/** Tries of a write that loses against any other: each is lost only to somebody who writes to that object in this very moment. */
export const ROUNDS = 5;

export function alwaysWritten(key: WorkspaceKey): ReconcileError {
  return transient('StoreUnavailable', `workspace ${key} is written by somebody else all the time`);
}

/** What `work` came to, or one of these refusals. */
export type Unless<T, S extends number> = T | { readonly refused: S; readonly why: string };

/** Characters of an object that may be too large to be kept. */
const LARGE = 1_000_000;

/** Asks for single workspaces, past any copy. */
export class WorkspaceApi {
  readonly #client: KubeClient;

  constructor(client: KubeClient) {
    this.#client = client;
  }

  async get(key: WorkspaceKey, signal: AbortSignal): Promise<WorkspaceResource | undefined> {
    const found = await this.ask({ method: 'GET', path: pathOf(key) }, [404], signal);
    return 'refused' in found ? undefined : found;
  }

  /** Refusals of these statuses are answers. Throws `StoreUnavailable` for any other failure. */
  async ask<S extends number>(
    request: KubeRequest,
    refusals: readonly S[],
    signal: AbortSignal,
  ): Promise<Unless<WorkspaceResource, S>> {
    const work = this.#client.call<WorkspaceResource>(request, signal).catch((thrown: unknown) => {
      const refused = thrown instanceof KubeRefusal && refusals.find((status) => status === thrown.status);
      if (refused === false || refused === undefined) throw thrown;
      return { refused, why: thrown.message };
    });
    return answered(work, signal);
  }

  /**
   * The same for a write of one object, which may be refused for what that object is, and then says nothing of the store. Throws
   * `TooLarge`, or `Internal` where it cannot be taken as it is.
   */
  async write<S extends number>(
    key: WorkspaceKey,
    request: KubeRequest,
    refusals: readonly S[],
    signal: AbortSignal,
  ): Promise<Unless<WorkspaceResource, S>> {
    try {
      return await this.ask(request, refusals, signal);
    } catch (thrown) {
      const refusal = thrown instanceof ReconcileError ? thrown.cause : undefined;
      if (!(refusal instanceof KubeRefusal)) throw thrown;
      if (refusal.status === 413 || (refusal.status === 500 && (await this.#isLarge(key, request, signal))))
        throw transient('TooLarge', `workspace ${key} is too large to be written: ${refusal.message}`, refusal);
      throw refusal.reason === 'Internal' ? refusal : thrown;
    }
  }

  /** etcd refuses what is larger than it takes, by default 1.5 MiB, and all that is left of that in the answer is a 500. */
  async #isLarge(key: WorkspaceKey, { body }: KubeRequest, signal: AbortSignal): Promise<boolean> {
    const found = await this.get(key, signal);
    return JSON.stringify([found, body]).length > LARGE;
  }
}

/** Of all workspaces of a namespace, or of all of them. */
export function collectionOf(namespace: string | undefined): string {
  const inside = namespace === undefined ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
  return `${GROUP_PATH}${inside}/workspaces`;
}

export function pathOf(key: WorkspaceKey): string {
  const { namespace, name } = splitWorkspaceKey(key);
  return `${collectionOf(namespace)}/${encodeURIComponent(name)}`;
}
