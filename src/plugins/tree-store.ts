import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';

import { hexOf, isDigest, type Digest } from '../domain/digest.ts';
import { transient } from '../domain/errors.ts';
import { treeDigest, treeLists, type TreeFile } from '../domain/tree.ts';
import type { Artifact } from '../ports/artifacts.ts';
import type { Clock } from '../ports/clock.ts';
import type { Logger } from '../ports/logger.ts';
import { MANIFEST_LIMIT_BYTES, MANIFEST_PATH, parseConfiguration, parseManifest } from './manifest.ts';
import type { PackedTree } from './pack.ts';
import { indexTreeArchive, WindowedFile, type StoredFile } from './tree-archive.ts';

export interface TreeStoreOptions {
  readonly dir: string;
  /** Archives over this many bytes together make the least recently used ones go. */
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** An archive is gone: evicted for room, or found broken. */
  readonly onGone: (digest: Digest, bytes: number) => Promise<void>;
}

/** Whoever got an artifact has so much time to open it before room may be made by deleting it. */
const GRACE_MS = 600_000;

/** What the file lists in memory may hold together; beyond it the least recently used are read from disk again. */
const MAX_FILES_IN_MEMORY = 500_000;

interface StoredTree {
  readonly bytes: number;
  /** On the monotonic scale, also for what an earlier process used. */
  usedAtMs: number;
  readers: number;
  artifact: Artifact | undefined;
}

/**
 * Archives on disk by tree digest. An archive is believed only after this process has hashed it from end to end, and is
 * hashed again, file by file, as it is read.
 */
export class TreeStore {
  readonly #options: TreeStoreOptions;
  /** In the order of last use, oldest first. */
  readonly #trees = new Map<Digest, StoredTree>();

  private constructor(options: TreeStoreOptions) {
    this.#options = options;
  }

  static async open(options: TreeStoreOptions): Promise<TreeStore> {
    const store = new TreeStore(options);
    await mkdir(options.dir, { recursive: true, mode: 0o700 });
    await store.#scan();
    return store;
  }

  has(digest: Digest): boolean {
    return this.#trees.has(digest);
  }

  /** What is known without a look at the disk. */
  peek(digest: Digest): Artifact | undefined {
    const tree = this.#trees.get(digest);
    if (tree?.artifact === undefined) return undefined;
    this.#use(digest, tree);
    return tree.artifact;
  }

  /** Reads and checks an archive. `undefined`: there is none, or it was broken and is gone now. */
  async load(digest: Digest, signal: AbortSignal): Promise<Artifact | undefined> {
    const tree = this.#trees.get(digest);
    if (tree === undefined) return undefined;
    const files = await indexTreeArchive(this.#path(digest), signal).catch((error: unknown) => {
      signal.throwIfAborted();
      this.#options.logger.warn('a cached plugin archive cannot be read and is fetched again', { digest, error });
      return undefined;
    });
    if (files === undefined || treeDigest(treeLists(files)) !== digest) {
      await this.#drop(digest);
      return undefined;
    }
    tree.artifact = await this.#artifact(digest, files);
    this.#use(digest, tree);
    await this.#touch(digest);
    this.#trimMemory();
    return tree.artifact;
  }

  /** Takes a packed tree over: one rename, so that a crash leaves a whole archive or none. */
  async put(packed: PackedTree, signal: AbortSignal): Promise<Artifact> {
    const { digest } = packed;
    const { size } = await stat(packed.path);
    await rename(packed.path, this.#path(digest));
    await syncDirectory(this.#options.dir);
    // Equal digests are equal bytes, so whoever reads the old file goes on as if nothing had happened.
    if (!this.#trees.has(digest))
      this.#trees.set(digest, { bytes: size, usedAtMs: 0, readers: 0, artifact: undefined });
    const artifact = await this.load(digest, signal);
    if (artifact === undefined)
      throw transient('Internal', `the archive ${digest} was not readable after it was written`);
    await this.#makeRoom();
    return artifact;
  }

  async #scan(): Promise<void> {
    const { clock, dir } = this.#options;
    const found: [Digest, StoredTree][] = [];
    for (const name of await readdir(dir)) {
      const digest = `sha256:${name.replace(/\.tar$/, '')}`;
      if (!isDigest(digest)) continue;
      const { size, mtimeMs } = await stat(join(dir, name));
      const usedAtMs = clock.monotonic() - (clock.now() - mtimeMs);
      found.push([digest, { bytes: size, usedAtMs, readers: 0, artifact: undefined }]);
    }
    found.sort(([, a], [, b]) => a.usedAtMs - b.usedAtMs);
    for (const [digest, tree] of found) this.#trees.set(digest, tree);
  }

  async #artifact(digest: Digest, files: readonly StoredFile[]): Promise<Artifact> {
    const manifest = files.find((file) => file.path === MANIFEST_PATH && file.size <= MANIFEST_LIMIT_BYTES);
    const text = manifest === undefined ? Buffer.alloc(0) : await this.#readSmall(digest, manifest);
    return {
      digest,
      files,
      lists: treeLists(files),
      manifest: parseManifest(text),
      configuration: parseConfiguration(text),
      contentBytes: files.reduce((sum, file) => sum + file.size, 0),
      open: () => this.#read(digest, files),
    };
  }

  async #readSmall(digest: Digest, file: StoredFile): Promise<Buffer> {
    const handle = await open(this.#path(digest), 'r');
    try {
      const chunks: Uint8Array[] = [];
      for await (const chunk of new WindowedFile(handle).contentOf(file)) chunks.push(chunk);
      return Buffer.concat(chunks);
    } finally {
      await handle.close();
    }
  }

  async *#read(
    digest: Digest,
    files: readonly StoredFile[],
  ): AsyncGenerator<{ readonly file: TreeFile; readonly content: AsyncIterable<Uint8Array> }> {
    const tree = this.#trees.get(digest);
    const handle = await open(this.#path(digest), 'r').catch((error: unknown) => this.#lost(digest, error));
    if (tree !== undefined) tree.readers += 1;
    const archive = new WindowedFile(handle);
    try {
      for (const file of files) yield { file, content: this.#verified(digest, archive, file) };
    } finally {
      if (tree !== undefined) tree.readers -= 1;
      await handle.close();
    }
  }

  async *#verified(digest: Digest, archive: WindowedFile, file: StoredFile): AsyncGenerator<Uint8Array> {
    const hash = createHash('sha256');
    try {
      for await (const chunk of archive.contentOf(file)) {
        hash.update(chunk);
        yield chunk;
      }
    } catch (error) {
      await this.#lost(digest, error);
    }
    if (hash.digest('hex') !== file.sha256) await this.#lost(digest, undefined);
  }

  async #lost(digest: Digest, cause: unknown): Promise<never> {
    await this.#drop(digest);
    throw transient('Internal', `the cached archive ${digest} was lost or damaged on disk; it is fetched again`, cause);
  }

  async #makeRoom(): Promise<void> {
    const { clock, maxBytes } = this.#options;
    let total = 0;
    for (const tree of this.#trees.values()) total += tree.bytes;
    for (const [digest, tree] of this.#trees) {
      if (total <= maxBytes) return;
      if (tree.readers > 0 || clock.monotonic() - tree.usedAtMs < GRACE_MS) continue;
      total -= tree.bytes;
      await this.#drop(digest);
    }
  }

  async #drop(digest: Digest): Promise<void> {
    const tree = this.#trees.get(digest);
    if (tree === undefined) return;
    this.#trees.delete(digest);
    await rm(this.#path(digest), { force: true });
    await this.#options.onGone(digest, tree.bytes);
  }

  #use(digest: Digest, tree: StoredTree): void {
    tree.usedAtMs = this.#options.clock.monotonic();
    this.#trees.delete(digest);
    this.#trees.set(digest, tree);
  }

  /** Carries the order of use over to the next process. */
  async #touch(digest: Digest): Promise<void> {
    const now = this.#options.clock.now() / 1000;
    await utimes(this.#path(digest), now, now).catch(() => undefined); // Only the order of eviction suffers.
  }

  #trimMemory(): void {
    let files = 0;
    for (const tree of this.#trees.values()) files += tree.artifact?.files.length ?? 0;
    for (const tree of this.#trees.values()) {
      if (files <= MAX_FILES_IN_MEMORY) return;
      files -= tree.artifact?.files.length ?? 0;
      tree.artifact = undefined;
    }
  }

  #path(digest: Digest): string {
    return join(this.#options.dir, `${hexOf(digest)}.tar`);
  }
}

/** A rename is on disk for good only once its directory is. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
