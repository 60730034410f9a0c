import type { Digest } from './digest.ts';
import type { Fence } from './fence.ts';
import type { LoaderView } from './loader.ts';
import type { PluginName } from './name.ts';
import type { ObservedSettings } from './plugin-settings.ts';
import type { TreeLists } from './tree.ts';

/** What plugset wrote on the target about one plugin. A hint only: what counts is what the look finds beside it. */
export interface Receipt {
  /** Format of the state directory; a newer one is refused as `UnknownFormat`. */
  readonly format: 1;
  readonly plugin: PluginName;
  /** `namespace/name` of the workspace that it was installed for. */
  readonly workspace: string;
  readonly authority: string;
  readonly source: string;
  readonly revision: string;
  readonly digest: Digest;
}

/** What a manifest says about itself; informs, never decides. */
export interface PluginManifest {
  readonly name?: string | undefined;
  readonly version?: string | undefined;
  readonly runtimes?: readonly string[] | undefined;
}

/** One entry directly under `plugins/`, as the last look found it. */
export interface ObservedPlugin {
  readonly name: PluginName;
  readonly manifest: PluginManifest;
  /**
   * Absent for a foreign directory, and when the agent garbled it. A receipt without a directory is an entry with
   * `present: false`.
   */
  readonly receipt?: Receipt | undefined;
  readonly present: boolean;
  /**
   * Tree digest of the lists that lie on the target, whose every file was found intact except `differing`.
   * Absent for an unmanaged directory. Compare it with the declared digest, not with the one in the receipt: both the
   * list and the receipt can be edited by the agent, and then only this one gives it away.
   */
  readonly listDigest?: Digest | undefined;
  /** Hex digest of the file list on the target; the precondition of a replacement. Absent: plugset did not install this. */
  readonly filesSha256?: string | undefined;
  /** The lists that `listDigest` is of; only of looks that asked for them. */
  readonly lists?: TreeLists | undefined;
  /** Listed paths that are gone, differ, lost or gained the executable bit, or are reached through a link. At most 20. */
  readonly differing: readonly string[];
  /** For an unmanaged directory that was asked about: whether every file of the declared tree is there and equal. */
  readonly equalToDesired?: boolean | undefined;
}

/** Everything one look at a target found. */
export interface Observation {
  /** Numeric owner of the config directory. */
  readonly owner: { readonly uid: number; readonly gid: number };
  readonly plugins: readonly ObservedPlugin[];
  /** Entries under `plugins/` that are no directory or have a name outside the grammar; shown, never touched. */
  readonly odd: readonly string[];
  readonly fence?: Fence | undefined;
  /** A transaction was committed and not carried through (a kill in between): it must be rolled forward first. */
  readonly journalPending: boolean;
  /** Settings of plugins, ours and others', one for each plugin. Absent: none are there. */
  readonly settings?: readonly ObservedSettings[] | undefined;
  /** The directory of the settings is a link, or something else that nothing is put into. */
  readonly areSettingsBlocked?: true | undefined;
  /** Only of looks that asked for it, and not where a part of it could not be seen. */
  readonly loader?: LoaderView | undefined;
}
