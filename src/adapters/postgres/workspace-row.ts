import { splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { EMPTY_STATUS, type WorkspaceStatus } from '../../domain/status.ts';
import { API_VERSION, workspaceFrom, workspaceSchema, type Policy } from '../../domain/workspace.ts';
import type { Loaded } from '../../ports/workspace-store.ts';
import { problemsOf, type Problem } from './schema-problems.ts';

/** A workspace or a tombstone with its plugins and its status, as one query hands it over. */
export interface WorkspaceRow {
  /** `{metadata, spec}`; made by plugset.manifest_of, of whatever people wrote. */
  readonly manifest: object;
  readonly generation: number;
  readonly dirty: number;
  readonly declared_at_ms: number;
  readonly deleting: boolean;
  readonly status: Partial<WorkspaceStatus> | null;
}

export function loadedFrom(key: WorkspaceKey, row: WorkspaceRow, defaultPolicy: Policy): Loaded {
  // A status that an older build wrote may lack what was added since.
  const status: WorkspaceStatus = row.status === null ? EMPTY_STATUS : { ...EMPTY_STATUS, ...row.status };
  const document = { apiVersion: API_VERSION, kind: 'Workspace', ...row.manifest };
  const parsed = workspaceSchema.safeParse(document);
  if (!parsed.success) {
    const describe = (problem: Problem): string => describeProblem(key, row, problem);
    return {
      kind: 'malformed',
      key,
      generation: row.generation,
      problems: problemsOf(parsed.error).map(describe),
      status,
    };
  }
  const workspace = workspaceFrom(parsed.data, {
    generation: row.generation,
    declaredAtMs: row.declared_at_ms,
    deleting: row.deleting,
    defaultPolicy,
    originOf: (_index, name) => pluginRow(key, row, name),
  });
  return { kind: 'found', workspace, status };
}

/** `row plugset.workspaces (default, alice): target.docker.container: must be a container name`. */
function describeProblem(key: WorkspaceKey, row: WorkspaceRow, { path, message }: Problem): string {
  const [, list, index, ...inPlugin] = path;
  if (list === 'plugins' && typeof index === 'number') {
    return `${pluginRow(key, row, pluginNameAt(row.manifest, index))}: ${[...inPlugin, message].join(': ')}`;
  }
  const column = path.slice(1).join('.');
  return `row ${tableOf(row, 'workspaces')} (${keyText(key)}): ${column}: ${message}`;
}

function pluginRow(key: WorkspaceKey, row: WorkspaceRow, name: string): string {
  return `row ${tableOf(row, 'plugins')} (${keyText(key)}, ${name})`;
}

function tableOf(row: WorkspaceRow, table: 'workspaces' | 'plugins'): string {
  return `plugset.${row.deleting ? 'tombstones' : table}`;
}

function keyText(key: WorkspaceKey): string {
  const { namespace, name } = splitWorkspaceKey(key);
  return `${namespace}, ${name}`;
}

function pluginNameAt(manifest: object, index: number): string {
  const { spec } = manifest as { spec: { plugins: readonly { name: string }[] } };
  return spec.plugins[index]?.name ?? `number ${index + 1}`;
}
