import { setMaxListeners } from 'node:events';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { DEFAULT_ARCHIVE_LIMITS, type ArchiveLimits } from '../domain/archive.ts';
import { hexOf, isDigest, sha256, type Digest } from '../domain/digest.ts';
import { aborted, classifyError, type ReconcileError } from '../domain/errors.ts';
import { untilAborted } from '../ports/abort.ts';
import type { Artifact, Artifacts } from '../ports/artifacts.ts';
import type { Clock } from '../ports/clock.ts';
import type { Logger } from '../ports/logger.ts';
import type { Metrics } from '../ports/metrics.ts';
import type { ParsedSource, PluginSource } from '../ports/plugin-source.ts';
import { cacheFailure, type ScratchSpace } from '../ports/scratch-space.ts';
import { packTree, type PackedTree } from './pack.ts';
import { syncDirectory, TreeStore } from './tree-store.ts';

export interface ArtifactCacheOptions {
  /** Made if need be. Two processes may share it. */
  readonly dir: string;
  /** Where archives are packed; on the same file system as `dir`, since they are moved there by a rename. */
  readonly scratch: ScratchSpace;
  /** Gets the files of a source, as `PluginSource.fetch` of its scheme does. */
  readonly fetch: PluginSource['fetch'];
  /** Size of all archives beyond which the least recently used go. Default 2 GiB. */
  readonly maxBytes?: number;
  /** What a plugin may be at most. */
  readonly limits?: ArchiveLimits;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

const DEFAULT_MAX_BYTES = 2 * 1024 ** 3;
const INDEX = 'index';

/** Group, sub-path and revision of a source, as JSON; its hash names the file that says which tree it is. */
type IndexKey = string;

/**
 * Trees by source and revision, on disk and content-addressed: `trees/<digest>.tar`, and in `index/` one small file for
 * every revision that was fetched. A revision is fetched once however many callers want it at the same time, and to the
 * end though all of them give up, since they will be back; a failure is told to those who waited and not remembered.
 */
export class ArtifactCache implements Artifacts {
  readonly #options: ArtifactCacheOptions;
  readonly #store: TreeStore;
  readonly #indexDir: string;
  readonly #index: Map<IndexKey, Digest>;
  readonly #obtaining = new Map<IndexKey, Promise<Artifact>>();
  readonly #closed = new AbortController();

  private constructor(options: ArtifactCacheOptions, store: TreeStore, index: Map<IndexKey, Digest>) {
    this.#options = options;
    this.#store = store;
    this.#indexDir = join(options.dir, INDEX);
    this.#index = index;
    // All fetches listen to it, and Node warns of a leak from the eleventh on.
    setMaxListeners(0, this.#closed.signal);
  }

  static async open(options: ArtifactCacheOptions): Promise<ArtifactCache> {
    const { clock, dir, logger, maxBytes = DEFAULT_MAX_BYTES } = options;
    const onGone = (digest: Digest, bytes: number): Promise<void> => cache.#forget(digest, bytes);
    const store = await TreeStore.open({ dir: join(dir, 'trees'), maxBytes, clock, logger, onGone });
    const cache = new ArtifactCache(options, store, await readIndex(join(dir, INDEX), store));
    return cache;
  }

  peek(source: ParsedSource, revision: string): Artifact | undefined {
    const digest = this.#index.get(indexKey(source, revision));
    const known = digest === undefined ? undefined : this.#store.peek(digest);
    if (known !== undefined) this.#options.metrics.artifact('hit', known.contentBytes);
    return known;
  }

  async get(source: ParsedSource, revision: string, signal: AbortSignal): Promise<Artifact> {
    if (signal.aborted) throw abortedBy(signal);
    const known = this.peek(source, revision);
    if (known !== undefined) return known;
    try {
      return await untilAborted(this.#obtainOnce(source, revision), signal);
    } catch (error) {
      throw signal.aborted ? abortedBy(signal) : error;
    }
  }

  /** Ends every fetch under way. */
  async close(): Promise<void> {
    this.#closed.abort();
    await Promise.allSettled(this.#obtaining.values());
  }

  #obtainOnce(source: ParsedSource, revision: string): Promise<Artifact> {
    const key = indexKey(source, revision);
    let obtaining = this.#obtaining.get(key);
    if (obtaining === undefined) {
      obtaining = this.#obtain(source, revision, this.#closed.signal).finally(() => this.#obtaining.delete(key));
      this.#obtaining.set(key, obtaining);
    }
    return obtaining;
  }

  async #obtain(source: ParsedSource, revision: string, signal: AbortSignal): Promise<Artifact> {
    const { metrics } = this.#options;
    try {
      const digest = this.#index.get(indexKey(source, revision));
      const stored = digest === undefined ? undefined : await this.#store.load(digest, signal);
      if (stored !== undefined) {
        metrics.artifact('hit', stored.contentBytes);
        return stored;
      }
      const fetched = await this.#timed(source, () => this.#fetch(source, revision, signal));
      metrics.artifact('miss', fetched.contentBytes);
      return fetched;
    } catch (error) {
      throw signal.aborted ? abortedBy(signal) : this.#classify(error);
    }
  }

  async #timed<T>(source: ParsedSource, fetch: () => Promise<T>): Promise<T> {
    const { clock, metrics } = this.#options;
    const startedMs = clock.monotonic();
    let outcome: 'ok' | 'error' = 'error';
    try {
      const fetched = await fetch();
      outcome = 'ok';
      return fetched;
    } finally {
      metrics.fetched(source.ref.scheme, outcome, (clock.monotonic() - startedMs) / 1000);
    }
  }

  async #fetch(source: ParsedSource, revision: string, signal: AbortSignal): Promise<Artifact> {
    const { fetch, limits = DEFAULT_ARCHIVE_LIMITS, scratch } = this.#options;
    const work = await scratch.create();
    try {
      const packed = await packTree(fetch(source, revision, signal), { dir: work.path, limits, signal });
      const artifact = await this.#store.put(packed, signal);
      await this.#remember(source, revision, packed, work.path);
      return artifact;
    } finally {
      await work.remove();
    }
  }

  /** The index entry comes after the tree: a crash between leaves a tree nobody asks for, which is evicted one day. */
  async #remember(source: ParsedSource, revision: string, { digest }: PackedTree, dir: string): Promise<void> {
    const key = indexKey(source, revision);
    const draft = join(dir, 'index-entry');
    const { group, subPath } = source;
    const handle = await open(draft, 'wx', 0o600);
    try {
      await handle.writeFile(`${JSON.stringify({ digest, group, subPath, revision })}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, join(this.#indexDir, fileOf(key)));
    await syncDirectory(this.#indexDir);
    this.#index.set(key, digest);
  }

  /** A tree is gone; what leads to it goes too, or the index would grow for ever. */
  async #forget(digest: Digest, bytes: number): Promise<void> {
    this.#options.metrics.artifact('evicted', bytes);
    for (const [key, known] of this.#index) {
      if (known !== digest) continue;
      this.#index.delete(key);
      await rm(join(this.#indexDir, fileOf(key)), { force: true });
    }
  }

  #classify(thrown: unknown): ReconcileError {
    const error = classifyError(cacheFailure(thrown, this.#options.dir));
    if (error.reason === 'CacheUnavailable') this.#options.metrics.artifactsUnusable();
    return error;
  }
}

/** What leads to a tree that is gone (a crash in the middle of an eviction) is swept. */
async function readIndex(dir: string, store: TreeStore): Promise<Map<IndexKey, Digest>> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const index = new Map<IndexKey, Digest>();
  for (const name of await readdir(dir)) {
    const entry = readEntry(await readFile(join(dir, name), 'utf8'));
    if (entry !== undefined && fileOf(entry.key) === name && store.has(entry.digest))
      index.set(entry.key, entry.digest);
    else await rm(join(dir, name), { force: true });
  }
  return index;
}

function indexKey({ group, subPath }: Pick<ParsedSource, 'group' | 'subPath'>, revision: string): IndexKey {
  return JSON.stringify([group, subPath, revision]);
}

function fileOf(key: IndexKey): string {
  return hexOf(sha256(key));
}

/** A torn or foreign file leads nowhere: its revision is fetched again. */
function readEntry(text: string): { readonly key: IndexKey; readonly digest: Digest } | undefined {
  try {
    const { digest, revision, ...source } = JSON.parse(text) as Readonly<
      Record<'digest' | 'group' | 'subPath' | 'revision', string>
    >;
    return isDigest(digest) ? { key: indexKey(source, revision), digest } : undefined;
  } catch {
    return undefined;
  }
}

function abortedBy(signal: AbortSignal): ReconcileError {
  return aborted('the fetch was given up', signal.reason);
}
