import type { WorkspaceKey } from '../domain/name.ts';
import type { SourceRef } from '../domain/source.ts';

/** One entry of a plugin as a source hands it over, before any rule was applied to it. */
export type SourceEntry =
  | {
      readonly kind: 'file';
      readonly path: string;
      readonly executable: boolean;
      readonly size: number;
      readonly content: AsyncIterable<Uint8Array>;
    }
  /** `target` as it stands in the link, relative to the link's own directory. */
  | { readonly kind: 'link'; readonly path: string; readonly target: string }
  /** A device, FIFO, socket, submodule or anything else that is no file of a plugin; refused by the packer with this word. */
  | { readonly kind: 'other'; readonly path: string; readonly what: string };

/** A source text that its scheme understands. Pure data. */
export interface ParsedSource {
  readonly ref: SourceRef;
  /**
   * Everything that one question to the source answers: a repository, a plugin of the local registry. Refs of one group are
   * resolved together, once per interval for the whole fleet.
   */
  readonly group: string;
  /** The part of the group that is meant: ref and sub-path of a repository. */
  readonly selector: string;
  /**
   * Which part of a revision is the plugin: a sub-path of the repository, a name in the registry; empty for all of it.
   * Group, sub-path and revision together name content: two refs at one commit are one artifact.
   */
  readonly subPath: string;
  /** With whose credentials it is asked, where not everybody has the same; part of the group. */
  readonly grant?: string;
  /** `true`: names a revision by itself (a full commit) and is never asked for again once fetched. */
  readonly pinned: boolean;
}

/**
 * One scheme of sources (or several that share everything but the address). A new scheme is one file that passes the suite.
 * Errors: `InvalidSource`, `PluginNotFound`, `AuthenticationFailed` (terminal), `SourceUnavailable` (transient).
 * Every call ends in time: an implementation has its own deadline besides `signal`.
 */
export interface PluginSource {
  readonly schemes: readonly string[];
  /**
   * Pure, from text alone. `asker`: the workspace that declares it; left out: nobody, who may use what is for all. Throws
   * `InvalidSource` with what is wrong and an example of what is right.
   */
  parse(ref: SourceRef, asker?: WorkspaceKey): ParsedSource;
  /**
   * Asks the source once what all `wanted` (one group) are now. The answer has an entry for each: a revision
   * (commit, content hash; never a moving name), or the error for that one alone. Throws when the whole group failed.
   */
  resolve(wanted: readonly ParsedSource[], signal: AbortSignal): Promise<ReadonlyMap<ParsedSource, string | Error>>;
  /**
   * The files of `source` at exactly `revision`, in any order, contents consumed one after the other. Paths are as the
   * source has them: hostile until the packer has seen them. Clean-up happens when the iteration ends, however it ends.
   */
  fetch(source: ParsedSource, revision: string, signal: AbortSignal): AsyncIterable<SourceEntry>;
}
