import type { Digest } from '../domain/digest.ts';
import type { PluginManifest } from '../domain/observation.ts';
import type { TreeFile, TreeLists } from '../domain/tree.ts';

/** A plugin's files at one revision, checked against the archive rules and packed as a canonical tar. */
export interface Artifact {
  readonly digest: Digest;
  readonly files: readonly TreeFile[];
  readonly lists: TreeLists;
  readonly manifest: PluginManifest;
  /** Sum of file sizes. */
  readonly contentBytes: number;
  /** The bytes of one file by its path in the tree, in the order the caller asks. Throws `Internal` if the cache lost it. */
  open(): AsyncIterable<{ readonly file: TreeFile; readonly content: AsyncIterable<Uint8Array> }>;
}
