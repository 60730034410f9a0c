import { findCondition } from './condition.ts';
import type { WorkspaceKey } from './name.ts';
import { isIdle, type Reason } from './reason.ts';
import type { PluginStatus, WorkspaceStatus } from './status.ts';
import { statusText } from './text.ts';

/**
 * What a status comes to, in one word: `Ready` · `Drifted` somebody changed the target, and policy says to leave it ·
 * `NotReady` it is not as declared, or nobody can tell, and plugset goes on trying · `Held` changes wait for a person's
 * word · `Stalled` without a person it never becomes Ready · `Idle` suspended, or never looked at · `Deleted` it is gone from
 * the store, and whatever was said of it before is over.
 */
export const STANDINGS = ['Ready', 'Drifted', 'NotReady', 'Held', 'Stalled', 'Idle', 'Deleted'] as const;
export type Standing = (typeof STANDINGS)[number];

export interface Stand {
  readonly standing: Standing;
  readonly reason: Reason;
}

/** One workspace has come from one stand to another. */
export interface Transition {
  readonly workspace: WorkspaceKey;
  /** `undefined`: nothing was known of it before. */
  readonly from: Stand | undefined;
  readonly to: Stand;
  readonly message: string;
  /** ISO time since when Ready is what it is. */
  readonly since: string;
  readonly summary: string;
  /** Plugins that are not as they should be; those that need a person first. */
  readonly plugins: readonly Pick<PluginStatus, 'name' | 'state' | 'reason' | 'message'>[];
}

/** What became of a workspace between two statuses; `undefined` when it stands where it stood. Pure. */
export function transitionBetween(
  workspace: WorkspaceKey,
  before: WorkspaceStatus,
  after: WorkspaceStatus,
): Transition | undefined {
  const from = standOf(before);
  const to = standOf(after);
  const ready = findCondition(after.conditions, 'Ready');
  if (to === undefined || ready === undefined || (from !== undefined && isSameStand(from, to))) return undefined;
  const { message, lastTransitionTime: since } = ready;
  return { workspace, from, to, message, since, summary: after.summary, plugins: troubledPlugins(after) };
}

/** How the deletion of a workspace ended. `message`: what a person has to know of it. */
export interface DeletionEnd {
  readonly reason: Extract<Reason, 'Succeeded' | 'DeletedUnclean'>;
  readonly message: string;
}

export const DELETED: DeletionEnd = {
  reason: 'Succeeded',
  message: 'it is declared no more, and its deletion has ended',
};

/** The last that is told of a workspace; `from`: where it stood, if anybody knows. Pure. */
export function deletionOf(
  workspace: WorkspaceKey,
  from: Stand | undefined,
  { reason, message }: DeletionEnd,
  since: string,
): Transition {
  return {
    workspace,
    from,
    to: { standing: 'Deleted', reason },
    message: statusText(message),
    since,
    summary: '',
    plugins: [],
  };
}

export function isSameStand(a: Stand, b: Stand): boolean {
  return a.standing === b.standing && a.reason === b.reason;
}

/** Foreign directories are none of our business; they are listed by `plugset status NAME`. */
export function troubledPlugins({ plugins }: Pick<WorkspaceStatus, 'plugins'>): readonly PluginStatus[] {
  const isFine = (plugin: PluginStatus): boolean =>
    plugin.state === 'Unmanaged' || (plugin.state === 'Installed' && plugin.reason === 'Succeeded');
  return plugins
    .filter((plugin) => !isFine(plugin))
    .toSorted((a, b) => Number(b.stalled ?? false) - Number(a.stalled ?? false));
}

export function standOf({ conditions, held }: WorkspaceStatus): Stand | undefined {
  const ready = findCondition(conditions, 'Ready');
  if (ready === undefined) return undefined;
  const { reason } = ready;
  if (isIdle(reason)) return { standing: 'Idle', reason };
  if (findCondition(conditions, 'Stalled') !== undefined) return { standing: 'Stalled', reason };
  if (held !== undefined && held.reason === reason) return { standing: 'Held', reason };
  if (ready.status !== 'True') return { standing: 'NotReady', reason };
  return findCondition(conditions, 'Drifted') === undefined
    ? { standing: 'Ready', reason }
    : { standing: 'Drifted', reason: 'Drifted' };
}
