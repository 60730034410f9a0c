import { transient } from '../../domain/errors.ts';
import type { KubeClient, Query } from './kube-client.ts';
import { isKubeObject, type KubeObject } from './kube-object.ts';

/** All objects of one kind: everywhere, in a namespace, or with certain labels. */
export interface KubeCollection {
  /** `/apis/plugset.dev/v1alpha1/workspaces` */
  readonly path: string;
  readonly query?: { readonly labelSelector?: string; readonly fieldSelector?: string };
}

export interface ListOptions {
  readonly pageSize: number;
  /** As it was at this version; left out: as it is. */
  readonly at?: string | undefined;
  readonly signal: AbortSignal;
}

interface Page {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly unknown[] | null;
}

/** A page has longer than a call: without a cache of it the API server reads it from etcd. */
const PAGE_TIMEOUT_MS = 60_000;

/**
 * Calls `add` with each object; resolves with the version at which the list is true. Its pages are of one moment, which
 * the server remembers for some minutes: after that it answers 410, and only a list from the beginning helps.
 */
export async function listPages(
  client: KubeClient,
  { path, query }: KubeCollection,
  { pageSize, at, signal }: ListOptions,
  add: (object: KubeObject) => void,
): Promise<string> {
  const exactly = at === undefined ? {} : { resourceVersion: at, resourceVersionMatch: 'Exact' };
  let rest: Query = exactly;
  for (;;) {
    const page = await client.call<Page>(
      { method: 'GET', path, query: { ...query, limit: pageSize, ...rest }, timeoutMs: PAGE_TIMEOUT_MS },
      signal,
    );
    const { items, metadata } = page;
    if (!Array.isArray(items) || typeof metadata?.resourceVersion !== 'string') throw noList(path);
    for (const item of items as readonly unknown[]) {
      if (!isKubeObject(item)) throw noList(path);
      add(item);
    }
    if (metadata.continue === undefined || metadata.continue === '') return metadata.resourceVersion;
    // The token says of which moment; to say it twice is refused.
    rest = { continue: metadata.continue };
  }
}

/** What is not on a list is gone, so a list that is not plainly one is none. */
function noList(path: string): Error {
  return transient('Unreachable', `the Kubernetes API: what GET ${path} answered is no list of objects`);
}
