import { splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { requestsSchema, withRequests } from '../../domain/requests.ts';
import { checkSchema, formatPath, type SchemaProblem } from '../../domain/schema-problems.ts';
import { EMPTY_STATUS, type WorkspaceStatus } from '../../domain/status.ts';
import {
  API_VERSION,
  REQUESTED_AT_ANNOTATION,
  workspaceFrom,
  workspaceSchema,
  type FleetPolicy,
  type WorkspaceManifest,
} from '../../domain/workspace.ts';
import type { Loaded } from '../../ports/workspace-store.ts';

/** A declaration without its two constant header lines, as far as it was written. */
export interface RowManifest {
  readonly metadata: { readonly name?: unknown; readonly annotations?: Readonly<Record<string, unknown>> | undefined };
  readonly spec: { readonly plugins: readonly { readonly name?: unknown }[] };
}

/** A workspace or a tombstone with its plugins and its status, as one query hands it over. */
export interface WorkspaceRow {
  /** Of whatever people wrote; null when that cannot be brought into this shape. */
  readonly manifest: RowManifest | null;
  /** Known already: the declaration cannot be used. */
  readonly problems?: readonly string[] | null;
  /** What people asked for beside the declaration; as it stands in the row. */
  readonly requests?: unknown;
  readonly generation: number;
  readonly dirty: number;
  readonly declared_at_ms: number;
  readonly deleting: boolean;
  readonly status: Partial<WorkspaceStatus> | null;
  /** The value of `dirty` that the status speaks of. */
  readonly handled: number | null;
}

/** What the rows of a table are called before their key: `row plugset.plugins`. */
export interface RowNames {
  workspaces(isTombstone: boolean): string;
  plugins(isTombstone: boolean): string;
}

export function loadedFrom(key: WorkspaceKey, row: WorkspaceRow, defaultPolicy: FleetPolicy, names: RowNames): Loaded {
  // A status that an older build wrote may lack what was added since.
  const status: WorkspaceStatus = row.status === null ? EMPTY_STATUS : { ...EMPTY_STATUS, ...row.status };
  const { generation, deleting } = row;
  const awaitsStatus = (row.handled ?? 0) < row.dirty;
  const requests = requestsSchema.safeParse(row.requests ?? {}).data;
  const checked = checkRow(key, row, names);
  if (requests === undefined || checked.kind === 'invalid') {
    const asked =
      requests?.[REQUESTED_AT_ANNOTATION]?.value ?? row.manifest?.metadata.annotations?.[REQUESTED_AT_ANNOTATION];
    const requestedAt = typeof asked === 'string' ? asked : undefined;
    return {
      kind: 'malformed',
      key,
      generation,
      problems: [
        ...(requests === undefined ? [unreadableRequests(key)] : []),
        ...(checked.kind === 'invalid' ? checked.problems : []),
      ],
      // What cannot be read now is read once somebody has put it right, and its plugins are taken away then.
      deleting: deleting && requests !== undefined,
      requestedAt,
      status,
      awaitsStatus,
    };
  }
  const workspace = workspaceFrom(withRequests(checked.value, requests), {
    generation,
    declaredAtMs: row.declared_at_ms,
    deleting,
    defaultPolicy,
    originOf: (_index, name) => pluginRow(key, names.plugins(deleting), name),
  });
  return { kind: 'found', workspace, status, awaitsStatus };
}

type CheckedRow =
  | { readonly kind: 'valid'; readonly value: WorkspaceManifest }
  | { readonly kind: 'invalid'; readonly problems: readonly string[] };

function checkRow(key: WorkspaceKey, { manifest, problems, deleting }: WorkspaceRow, names: RowNames): CheckedRow {
  if (manifest === null || (problems !== undefined && problems !== null))
    return { kind: 'invalid', problems: problems ?? [] };
  return checkManifest(key, manifest, names, deleting);
}

/** What was asked for may be an approval: it is not taken for nothing. */
export function unreadableRequests(key: WorkspaceKey): string {
  const problem = "requests: is not what plugset writes; set it to '{}' to have nothing asked for";
  return workspaceRow(key, 'row plugset.declarations', problem);
}

/** Problems name the row: `row plugset.workspaces (default, alice): target.docker.container: must be a container name`. */
export function checkManifest(
  key: WorkspaceKey,
  manifest: RowManifest,
  names: RowNames,
  isTombstone = false,
): CheckedRow {
  const checked = checkSchema(workspaceSchema, { apiVersion: API_VERSION, kind: 'Workspace', ...manifest });
  if (checked.kind === 'valid') return checked;
  const describe = ({ path, message }: SchemaProblem): string => {
    const [, list, index, ...inPlugin] = path;
    if (list === 'plugins' && typeof index === 'number') {
      const name = manifest.spec.plugins[index]?.name;
      const shown = typeof name === 'string' ? name : `number ${index + 1}`;
      const row = pluginRow(key, names.plugins(isTombstone), shown);
      return inPlugin.length === 0 ? `${row}: ${message}` : `${row}: ${formatPath(inPlugin)}: ${message}`;
    }
    return workspaceRow(key, names.workspaces(isTombstone), `${formatPath(path.slice(1))}: ${message}`);
  };
  return { kind: 'invalid', problems: checked.problems.map(describe) };
}

export function workspaceRow(key: WorkspaceKey, table: string, problem: string): string {
  return `${table} (${keyText(key)}): ${problem}`;
}

function pluginRow(key: WorkspaceKey, table: string, name: string): string {
  return `${table} (${keyText(key)}, ${name})`;
}

function keyText(key: WorkspaceKey): string {
  const { namespace, name } = splitWorkspaceKey(key);
  return `${namespace}, ${name}`;
}
