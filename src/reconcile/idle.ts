import { targetKind, type Workspace } from '../domain/workspace.ts';
import type { PassFacts } from './summarize.ts';

/** Why nobody works on a declared workspace at all; `undefined`: it is worked on. */
export function idleReason(workspace: Workspace): PassFacts['idle'] {
  if (workspace.suspend)
    return { reason: 'Suspended', message: 'spec.suspend is true; nothing is looked at or changed' };
  if (targetKind(workspace.target) !== 'external') return undefined;
  return { reason: 'Pull', message: 'an external workspace fetches for itself; plugset never looks at it' };
}

/** Whether a pass over it would look at its target at all. */
export function hasPlan(workspace: Workspace): boolean {
  if (!workspace.deleting) return idleReason(workspace) === undefined;
  return isCleanedUp(workspace) && targetKind(workspace.target) !== 'external';
}

/** Whether what plugset installed is taken away when it is deleted. */
export function isCleanedUp({ policy }: Workspace): boolean {
  return policy.deletion === 'Remove' && policy.mode !== 'Observe';
}
