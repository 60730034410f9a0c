import type { Fence } from '../domain/fence.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { WorkspaceStatus } from '../domain/status.ts';
import type { Requests, Workspace, WorkspaceManifest } from '../domain/workspace.ts';

/** What a store says about one key. Three answers; "could not read" is none of them, it is a thrown error. */
export type Loaded =
  | {
      readonly kind: 'found';
      readonly workspace: Workspace;
      readonly status: WorkspaceStatus;
      readonly awaitsStatus?: boolean | undefined;
    }
  /** Declared, and not usable: a condition on this key only. `problems` name file and line, or the row. */
  | {
      readonly kind: 'malformed';
      readonly key: WorkspaceKey;
      readonly generation: number;
      readonly problems: readonly string[];
      /** Deleted meanwhile: nobody can say any more where its plugins would be. */
      readonly deleting: boolean;
      /** Newest value of `plugset.dev/requestedAt`: whoever asked for a pass is told that it was made. */
      readonly requestedAt?: string | undefined;
      readonly status: WorkspaceStatus;
      /** The store counts this change as open until a status speaks of it, be it the same as before. */
      readonly awaitsStatus?: boolean | undefined;
    }
  /** Neither declared nor waiting for its clean-up. */
  | { readonly kind: 'absent' };

/** Why a key came up; decides the priority in the queue and nothing else. */
export type WatchCause = 'edit' | 'relist';

export interface StatusWrite {
  readonly key: WorkspaceKey;
  readonly status: WorkspaceStatus;
  /** The turn under which this is written; an older one than the store has seen is refused. */
  readonly fence: Fence;
}

/**
 * Where desired state is declared. Implementations: Postgres (rows of its own, or a platform's), files, custom resources.
 * Every method throws {@link ReconcileError} `StoreUnavailable` (transient; waiting where the store says when to come back)
 * when the store cannot answer, and never answers with a part: a list is the whole list or an error, but for the namespaces
 * that {@link WorkspaceStore.unread} names.
 */
export interface WorkspaceStore {
  /** Every key that is declared, malformed ones and tombstones included, in no order. */
  list(signal: AbortSignal): Promise<readonly WorkspaceKey[]>;

  get(key: WorkspaceKey, signal: AbortSignal): Promise<Loaded>;

  /**
   * What is declared under many keys at once, for whoever has to know a whole fleet; `undefined` where that is malformed.
   * Absent keys are left out. No substitute for `get` before a pass. Left out by a store that has no shorter way than that.
   */
  declarations?(
    keys: readonly WorkspaceKey[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<WorkspaceKey, Workspace | undefined>>;

  /**
   * Calls `onKey` for every key whose declaration may have changed, from before the promise resolves until `signal`
   * aborts; a store that can tell also names what changed before and no status speaks of. Resolves when changes from now on cannot be missed. Lost connections and lost events heal by themselves:
   * after a gap every key is named again (`relist`). Writing a status names no key.
   */
  watch(onKey: (key: WorkspaceKey, cause: WatchCause) => void, signal: AbortSignal): Promise<void>;

  /**
   * Writes the status of a declared workspace or tombstone; a key that is gone is left gone.
   * Refused as `NotLeader` (aborted) when `fence` is older than one this store has seen.
   */
  writeStatus(write: StatusWrite, signal: AbortSignal): Promise<void>;

  /**
   * Before anything of this workspace is put on a target, be it a directory that is only adopted: a deletion from now on
   * waits for {@link finishDeletion}. Idempotent, and free when that is so already; names no new generation. Refused like a
   * status write. A key that is gone or already being deleted is left as it is, and nothing may be put anywhere for it:
   * `Deleting` (waiting). Left out by a store where every deletion waits.
   */
  claim?(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<void>;

  /**
   * The target of a deleted workspace is clean (or may stay as it is): forget the tombstone and its status.
   * Idempotent. A key that was declared anew meanwhile is left alone. Refused like a status write.
   */
  finishDeletion(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<void>;

  /** For people at a command line: writes a declaration, returns whether anything changed. `InvalidSpec` when refused. */
  apply(manifest: WorkspaceManifest, signal: AbortSignal): Promise<'created' | 'configured' | 'unchanged'>;

  /** For people: takes a declaration out. `false` when there is none. */
  delete(key: WorkspaceKey, signal: AbortSignal): Promise<boolean>;

  /**
   * For people: sets annotations that ask for something, which wakes the workspace without raising its generation; other
   * annotations stay. Also of a workspace that is being deleted. `false` when there is no such workspace.
   */
  annotate(key: WorkspaceKey, requests: Requests, signal: AbortSignal): Promise<boolean>;

  /**
   * Namespaces that this process may not read while it may read others, and why, for people; as of the last try. Nothing in them is
   * absent: their keys are listed as they were known last, if they were, `declarations` answers the same way, and `get` throws
   * `AccessDenied` (waiting) of any key there, so that nobody works on it. Reads no more than state. Left out by a store that is read as a whole.
   */
  unread?(): ReadonlyMap<string, string>;

  /**
   * How many places of what is declared (files, say) could not be read as of the last look and show in no workspace; what they
   * said before stands. Reads no more than state. Left out where there is no such place.
   */
  unreadable?(): number;

  /**
   * Why the answers may be old, while what people wrote cannot be read and what was read before stands; for readiness and
   * metrics. Left out by a store that answers from the very place, and then fails with it.
   */
  readonly outdated?: string | undefined;

  /** Ends connections and watchers. Idempotent. */
  close(): Promise<void>;
}
