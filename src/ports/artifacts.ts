import type { Digest } from '../domain/digest.ts';
import type { PluginManifest } from '../domain/observation.ts';
import type { ConfigurationSchema } from '../domain/plugin-settings.ts';
import type { TreeFile, TreeLists } from '../domain/tree.ts';
import type { ParsedSource } from './plugin-source.ts';

/** A plugin's files at one revision, checked against the archive rules and packed as a canonical tar. */
export interface Artifact {
  readonly digest: Digest;
  readonly files: readonly TreeFile[];
  readonly lists: TreeLists;
  readonly manifest: PluginManifest;
  /** What its manifest says of its settings. */
  readonly configuration?: ConfigurationSchema | undefined;
  /** Sum of file sizes. */
  readonly contentBytes: number;
  /** The bytes of one file by its path in the tree, in the order the caller asks. Throws `Internal` if the cache lost it. */
  open(): AsyncIterable<{ readonly file: TreeFile; readonly content: AsyncIterable<Uint8Array> }>;
}

/** Trees by source and revision: fetched once, however many workspaces want them. */
export interface Artifacts {
  /**
   * Cheap when the revision is known (no disk, no network). Throws what the source throws, and `SourceRejected`
   * (terminal) when the content breaks an archive rule.
   */
  get(source: ParsedSource, revision: string, signal: AbortSignal): Promise<Artifact>;
  /** What is known without a look at the disk; left out where `get` is as cheap. */
  peek?(source: ParsedSource, revision: string): Artifact | undefined;
}
