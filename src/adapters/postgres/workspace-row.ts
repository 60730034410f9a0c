import { checkSchema, formatPath, type SchemaProblem } from '../../domain/schema-problems.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { EMPTY_STATUS, type WorkspaceStatus } from '../../domain/status.ts';
import {
  API_VERSION,
  REQUESTED_AT_ANNOTATION,
  workspaceFrom,
  workspaceSchema,
  type Policy,
} from '../../domain/workspace.ts';
import type { Loaded } from '../../ports/workspace-store.ts';

/** A workspace or a tombstone with its plugins and its status, as one query hands it over. */
export interface WorkspaceRow {
  /** `{metadata, spec}`; made by plugset.manifest_of, of whatever people wrote. */
  readonly manifest: { readonly metadata: { readonly annotations?: Readonly<Record<string, unknown>> } };
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
  const checked = checkSchema(workspaceSchema, document);
  if (checked.kind === 'invalid') {
    const problems = checked.problems.map((problem) => describeProblem(key, row, problem));
    const { generation, deleting } = row;
    const asked = row.manifest.metadata.annotations?.[REQUESTED_AT_ANNOTATION];
    const requestedAt = typeof asked === 'string' ? asked : undefined;
    return { kind: 'malformed', key, generation, problems, deleting, requestedAt, status };
  }
  const workspace = workspaceFrom(checked.value, {
    generation: row.generation,
    declaredAtMs: row.declared_at_ms,
    deleting: row.deleting,
    defaultPolicy,
    originOf: (_index, name) => pluginRow(key, row, name),
  });
  return { kind: 'found', workspace, status };
}

/** `row plugset.workspaces (default, alice): target.docker.container: must be a container name`. */
function describeProblem(key: WorkspaceKey, row: WorkspaceRow, { path, message }: SchemaProblem): string {
  const [, list, index, ...inPlugin] = path;
  if (list === 'plugins' && typeof index === 'number') {
    return `${pluginRow(key, row, pluginNameAt(row.manifest, index))}: ${inPlugin.length === 0 ? message : `${formatPath(inPlugin)}: ${message}`}`;
  }
  return `row ${tableOf(row, 'workspaces')} (${keyText(key)}): ${formatPath(path.slice(1))}: ${message}`;
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
