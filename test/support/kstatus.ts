import type { WorkspaceStatus } from '../../src/domain/status.ts';

/**
 * What `kubectl wait`, Flux and Argo would make of a status: the rules of cli-utils' kstatus, in their order. They know no other
 * condition than these three, and an object that says nothing they take for done.
 */
export function kstatus(
  generation: number,
  deleting: boolean,
  { observedGeneration, conditions = [] }: Partial<WorkspaceStatus>,
): 'Current' | 'InProgress' | 'Failed' | 'Terminating' {
  if (deleting) return 'Terminating';
  if (observedGeneration !== undefined && observedGeneration !== generation) return 'InProgress';
  // Whichever of the two comes first in the list.
  for (const { type, status } of conditions) {
    if (type === 'Reconciling' && status === 'True') return 'InProgress';
    if (type === 'Stalled' && status === 'True') return 'Failed';
  }
  const ready = conditions.find(({ type }) => type === 'Ready');
  return ready === undefined || ready.status === 'True' ? 'Current' : 'InProgress';
}
