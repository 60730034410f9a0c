import { DEFAULT_POLICY, type TargetSpec, type Workspace } from '../../src/domain/workspace.ts';
import { workspaceKey } from '../../src/domain/name.ts';

/** A workspace with nothing to install, for tests of where it is. */
export function workspaceAt(
  target: TargetSpec,
  options: { readonly name?: string; readonly namespace?: string; readonly id?: string } = {},
): Workspace {
  const name = options.name ?? 'alice';
  return {
    key: workspaceKey(options.namespace ?? 'team-a', name),
    id: options.id ?? name,
    labels: {},
    annotations: {},
    generation: 1,
    declaredAtMs: 0,
    runtime: 'claude-code',
    target,
    plugins: [],
    policy: DEFAULT_POLICY,
    ownPolicy: {},
    lockedPolicy: [],
    suspend: false,
    deleting: false,
  };
}
