import { transient } from '../../domain/errors.ts';
import { AnswerTooLarge, type KubeClient, type Query } from './kube-client.ts';
import { isKubeObject, type KubeObject } from './kube-object.ts';
import { KubeRefusal } from './kube-refusal.ts';

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
 * Calls what `begin` answers with each object; resolves with the version at which the list is true. Its pages are of one moment,
 * which the server remembers for some minutes: after that it answers 410, and only a list from the beginning helps. That is
 * begun once more, unless `at` is the moment which is wanted: what came so far is none.
 */
export async function listPages(
  client: KubeClient,
  collection: KubeCollection,
  options: ListOptions,
  begin: () => (object: KubeObject) => void,
): Promise<string> {
  let pages = 0;
  const read = (): Promise<string> => {
    pages = 0;
    const add = begin();
    return readPages(client, collection, options, (items) => {
      pages += 1;
      for (const item of items) add(item);
    });
  };
  try {
    return await read();
  } catch (error) {
    const isTooSlow = pages > 0 && error instanceof KubeRefusal && error.isVersionLost;
    if (!isTooSlow || options.at !== undefined) throw error;
    return await read();
  }
}

async function readPages(
  client: KubeClient,
  { path, query }: KubeCollection,
  { pageSize, at, signal }: ListOptions,
  take: (items: readonly KubeObject[]) => void,
): Promise<string> {
  const exactly = at === undefined ? {} : { resourceVersion: at, resourceVersionMatch: 'Exact' };
  let rest: Query = exactly;
  let limit = pageSize;
  for (;;) {
    const asked = { ...query, limit, ...rest };
    const page = await client
      .call<Page>({ method: 'GET', path, query: asked, timeoutMs: PAGE_TIMEOUT_MS }, signal)
      .catch((error: unknown) => {
        if (limit === 1 || !isTooLarge(error)) throw error;
      });
    if (page === undefined) {
      // Whoever may write objects may write large ones: that must not keep the others from being read.
      limit = Math.ceil(limit / 4);
      continue;
    }
    const { items, metadata } = page;
    if (!Array.isArray(items) || typeof metadata?.resourceVersion !== 'string') throw noList(path);
    if (!areKubeObjects(items)) throw noList(path);
    take(items);
    if (metadata.continue === undefined || metadata.continue === '') return metadata.resourceVersion;
    // The token says of which moment; to say it twice is refused.
    rest = { continue: metadata.continue };
  }
}

function isTooLarge(error: unknown): boolean {
  return error instanceof Error && error.cause instanceof AnswerTooLarge;
}

function areKubeObjects(items: readonly unknown[]): items is readonly KubeObject[] {
  return items.every(isKubeObject);
}

/** What is not on a list is gone, so a list that is not plainly one is none. */
function noList(path: string): Error {
  return transient('Unreachable', `the Kubernetes API: what GET ${path} answered is no list of objects`);
}
