import type { PluginName } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import type { RuntimeProfile } from '../domain/profile.ts';
import type { Fence } from '../domain/fence.ts';
import type { Digest } from '../domain/digest.ts';
import type { Transaction } from '../domain/transaction.ts';
import type { TreeLists } from '../domain/tree.ts';
import type { ReconcileError } from '../domain/errors.ts';
import type { Artifact } from './artifacts.ts';
import type { WorkspaceTarget } from './workspace-target.ts';

/** A place on a target where plugins go. */
export interface HostPlace {
  readonly target: WorkspaceTarget;
  /** Absolute on the target, or `.` for the target's own directory. */
  readonly configDir: string;
  readonly profile: RuntimeProfile;
}

/**
 * What a look tells besides: the lists of managed plugins, as far as they are small; with `loader` also what a runtime's loader
 * made of plugins, where the profile names a memory file. With `settings` what is in files of settings instead, secrets and all.
 */
export type LookDetail = 'lists' | 'loader' | 'settings';

export interface ConvergeRequest {
  readonly transaction: Transaction;
  readonly fence: Fence;
  /** Owner of the config directory as the last look found it (or the profile's); the apply runs as that user. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /**
   * Planned without a look, for a place where nothing was ever installed. Where `plugins` or anything of plugset's is found
   * all the same, or another owner, nothing is created, and `TargetMoved` or `UnsafePath` is thrown.
   */
  readonly expectsBlank?: boolean | undefined;
  /** Authority whose fence a person has decided to take the place of; any other foreign one is refused as before. */
  readonly takenFrom?: string | undefined;
  /** Content of every `put-tree`, by digest. */
  readonly artifacts: ReadonlyMap<Digest, Artifact>;
}

export interface ConvergeResult {
  /** What failed, by plugin; the others were carried out. Empty on success. */
  readonly failed: ReadonlyMap<PluginName, ReconcileError>;
  /** Paths under `.plugset/kept/` to which unlisted files of replaced or removed trees were moved. */
  readonly kept: readonly string[];
  /** What the same run found on the disk after its last step. */
  readonly observation: Observation;
}

/**
 * Observe and converge, in plugin words, for every kind of target alike. Implemented once, on `WorkspaceTarget.run`.
 * Throws, besides what `run` throws: `UnknownFormat`, `UnsafePath`, `ToolMissing`, `ReadOnly`, `PermissionDenied`,
 * `ForeignOwner` (terminal); `ConfigDirMissing`, `LockHeld`, `DiskFull`, `ObserveFailed`, `TargetMoved`, `VerifyFailed`,
 * and `InstallFailed`, `RemoveFailed` for a committed transaction that the next one will carry through (transient);
 * `StaleFence` (aborted); `OutcomeUnknown` (unknown).
 */
export interface PluginHost {
  /**
   * A deep look in one run: every listed file of every plugin is hashed. Reads only, follows no link.
   * `candidates`: declared trees by the name they would be installed as; an unmanaged directory of that name is
   * compared with its tree (`equalToDesired`).
   */
  observe(
    place: HostPlace,
    candidates: ReadonlyMap<PluginName, TreeLists>,
    signal: AbortSignal,
    detail?: LookDetail,
  ): Promise<Observation>;
  /** One transaction in one run, which ends with a look. Everything before its commit point leaves no trace. */
  converge(place: HostPlace, request: ConvergeRequest, signal: AbortSignal): Promise<ConvergeResult>;
}

/** A program on a target. */
export interface Tool {
  readonly name: string;
  readonly path: string | undefined;
}

/** Looks for what a {@link PluginHost} needs on a target, whoever asks for it. */
export interface ToolBench {
  /** Throws `ToolMissing` (terminal), which names all that are, and what `run` throws. */
  tools(place: Pick<HostPlace, 'target'>, signal: AbortSignal): Promise<readonly Tool[]>;
}
