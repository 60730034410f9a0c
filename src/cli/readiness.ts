import { findCondition } from '../domain/condition.ts';
import type { Declared } from './workspaces.ts';

/** What a table says of a workspace as a whole. */
export interface Readiness {
  readonly ready: 'True' | 'False' | 'Unknown';
  /** A reason of the closed list; `Deleting: ` before it where that is why a deletion does not end; `-`: no report. */
  readonly reason: string;
  readonly message: string;
  /** ISO time of the last change of `ready`. */
  readonly since: string | undefined;
}

/**
 * The Ready condition, unless it speaks of something else than what is declared now: an old generation's `True` would
 * tell whoever has just edited that the edit is in place.
 */
export function readinessOf(declared: Declared): Readiness {
  const ready = findCondition(declared.status.conditions, 'Ready');
  if (declared.kind === 'malformed') {
    const since = ready?.status === 'False' ? ready.lastTransitionTime : undefined;
    return { ready: 'False', reason: 'InvalidSpec', message: declared.problems.join('; '), since };
  }
  const { deleting, generation } = declared.workspace;
  if (ready === undefined)
    return { ready: 'Unknown', reason: '-', message: 'no pass has reported yet', since: undefined };
  if (deleting) {
    const isStuck = isDeletionStuck(declared);
    const message = isStuck ? `is being deleted; ${ready.message}` : 'is being deleted';
    return { ready: 'False', reason: isStuck ? `Deleting: ${ready.reason}` : 'Deleting', message, since: undefined };
  }
  if (ready.observedGeneration < generation) {
    const message = `generation ${generation} is declared; the last report is about generation ${ready.observedGeneration}`;
    return { ready: 'Unknown', reason: 'Progressing', message, since: undefined };
  }
  return { ready: ready.status, reason: ready.reason, message: ready.message, since: ready.lastTransitionTime };
}

/** Whether a pass has tried to clean the target of a deleted workspace, and could not. */
export function isDeletionStuck({ workspace, status }: Extract<Declared, { kind: 'found' }>): boolean {
  const ready = findCondition(status.conditions, 'Ready');
  if (ready === undefined || ready.observedGeneration < workspace.generation) return false;
  return workspace.deleting && ready.status !== 'True' && ready.reason !== 'Deleting';
}
