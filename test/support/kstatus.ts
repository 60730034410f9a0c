import type { WorkspaceStatus } from '../../src/domain/status.ts';

/** What `kubectl wait`, Flux and Argo would make of a status: the rules of cli-utils' kstatus, in their order. */
export function kstatus(
  generation: number,
  deleting: boolean,
  status: WorkspaceStatus,
): 'Current' | 'InProgress' | 'Failed' | 'Terminating' {
  if (deleting) return 'Terminating';
  if (status.observedGeneration !== generation) return 'InProgress';
  for (const condition of status.conditions) {
    if (condition.type === 'Reconciling' && condition.status === 'True') return 'InProgress';
    if (condition.type === 'Stalled' && condition.status === 'True') return 'Failed';
  }
  const ready = status.conditions.find((condition) => condition.type === 'Ready');
  if (ready === undefined) return 'Current';
  return ready.status === 'True' ? 'Current' : 'InProgress';
}
