import { splitWorkspaceKey } from '../domain/name.ts';
import { API_VERSION, type Workspace } from '../domain/workspace.ts';
import { keyOf, type Declared } from './workspaces.ts';

/** A workspace as the custom resource would have it: for `-o json` and `-o yaml`. */
export function resourceOf(declared: Declared): unknown {
  const { namespace, name } = splitWorkspaceKey(keyOf(declared));
  const head = { apiVersion: API_VERSION, kind: 'Workspace' };
  if (declared.kind === 'malformed') {
    const metadata = { name, namespace, generation: declared.generation };
    return { ...head, metadata, problems: declared.problems, status: declared.status };
  }
  const { workspace, status } = declared;
  const { labels, annotations, generation, deleting } = workspace;
  const metadata = { name, namespace, labels, annotations, generation, ...(deleting ? { deleting } : {}) };
  return { ...head, metadata, spec: specOf(workspace), status };
}

function specOf(workspace: Workspace): unknown {
  const { id, runtime, target, policy, suspend } = workspace;
  const plugins = workspace.plugins.map(({ name, source, digest, config }) => ({ name, source, digest, config }));
  return { id, runtime, target, plugins, policy, suspend };
}
