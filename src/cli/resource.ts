import { splitWorkspaceKey } from '../domain/name.ts';
import { API_VERSION, type Workspace } from '../domain/workspace.ts';
import { keyOf, type Declared } from './workspaces.ts';

/**
 * A workspace as the custom resource would have it: for `-o json` and `-o yaml`. Its spec is what was declared and no
 * defaults, so that applying it again changes nothing, and nails down nothing that the operator may still change.
 */
export function resourceOf(declared: Declared): unknown {
  const { namespace, name } = splitWorkspaceKey(keyOf(declared));
  const head = { apiVersion: API_VERSION, kind: 'Workspace' };
  if (declared.kind === 'malformed') {
    const metadata = { name, namespace, generation: declared.generation };
    return { ...head, metadata, problems: declared.problems, status: declared.status };
  }
  const { workspace, status } = declared;
  const { labels, annotations, generation, deleting } = workspace;
  const metadata = {
    name,
    namespace,
    labels: unlessEmpty(labels),
    annotations: unlessEmpty(annotations),
    generation,
    ...(deleting ? { deleting } : {}),
  };
  return { ...head, metadata, spec: specOf(workspace, name), status };
}

function specOf(workspace: Workspace, defaultId: string): unknown {
  const { id, runtime, target, ownPolicy, suspend } = workspace;
  return {
    ...(id === defaultId ? {} : { id }),
    runtime,
    target,
    plugins: workspace.plugins.map(({ name, source, digest, config }) => ({ name, source, digest, config })),
    policy: unlessEmpty(ownPolicy),
    ...(suspend ? { suspend } : {}),
  };
}

function unlessEmpty<T extends object>(map: T): T | undefined {
  return Object.keys(map).length === 0 ? undefined : map;
}
