import { targetKind, type Workspace } from '../domain/workspace.ts';
import type { PassFacts } from './summarize.ts';

/** Why nobody works on a declared workspace at all; `undefined`: it is worked on. */
export function idleReason(workspace: Workspace): PassFacts['idle'] {
  if (workspace.suspend)
    return { reason: 'Suspended', message: 'spec.suspend is true; nothing is looked at or changed' };
  if (targetKind(workspace.target) !== 'external') return undefined;
  return { reason: 'Pull', message: 'an external workspace fetches for itself; plugset never looks at it' };
}

/** Why no pass looks at its target, for people; `undefined`: it is looked at. */
export function whyUnseen(workspace: Workspace): string | undefined {
  if (!workspace.deleting || targetKind(workspace.target) === 'external') return idleReason(workspace)?.message;
  if (isCleanedUp(workspace)) return undefined;
  const { deletion, mode } = workspace.policy;
  const why = deletion === 'Orphan' ? 'policy.deletion is Orphan' : `policy.mode is ${mode}`;
  return `it is deleted, and what is installed on its target stays there: ${why}`;
}

/** Whether what plugset installed is taken away when it is deleted. */
export function isCleanedUp({ policy }: Workspace): boolean {
  return policy.deletion === 'Remove' && policy.mode !== 'Observe';
}
