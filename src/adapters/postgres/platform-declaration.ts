import { canonicalJson, sha256, type Digest } from '../../domain/digest.ts';
import { isName, NAME_RULE, splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import type { WorkspaceManifest } from '../../domain/workspace.ts';
import { PLACE_COLUMNS, QUERY_SETTING } from './platform-columns.ts';
import { checkManifest, workspaceRow, type RowManifest, type RowNames } from './workspace-row.ts';

/** The rows of one key: one entry, or several where the platform has the name twice. */
export interface PlatformRows {
  readonly key: WorkspaceKey;
  /** JSON of a list of {@link Entry}. */
  readonly entries: string;
  readonly rowDigest: string;
  readonly joinsById: boolean;
}

/** What the rows of one key say. */
export interface PlatformDeclaration {
  /** Of what the generation stands for. */
  readonly digest: Digest;
  readonly manifest: WorkspaceManifest | null;
  readonly problems: readonly string[] | null;
}

type Row = Readonly<Record<string, unknown>>;

interface Entry {
  /** How many rows have its id. */
  readonly sharers: number;
  readonly workspace: Row;
  readonly plugins: readonly Row[];
}

/** The platform's rows have no name that we know; their query has. */
export const PLATFORM_NAMES: RowNames = {
  workspaces: () => `row of ${QUERY_SETTING}.workspaces`,
  plugins: () => `row of ${QUERY_SETTING}.plugins`,
};

export function declarationFrom(rows: PlatformRows): PlatformDeclaration {
  const { key, rowDigest } = rows;
  const entries = JSON.parse(rows.entries) as readonly Entry[];
  const [entry] = entries;
  if (entry === undefined) throw new Error(`no rows of ${key}`);
  const malformed = (problems: readonly string[]): PlatformDeclaration => ({
    digest: sha256('malformed\n', rowDigest),
    manifest: null,
    problems,
  });
  const problems = [...rowProblems(entries, entry, rows), ...unstorable(entries)];
  if (problems.length > 0) return malformed(problems.map((problem) => workspaceRow(key, PLATFORM_ROW, problem)));
  const checked = checkManifest(key, manifestFrom(key, entry), PLATFORM_NAMES);
  if (checked.kind === 'invalid') return malformed(checked.problems);
  return { digest: sha256(canonicalJson(checked.value.spec)), manifest: checked.value, problems: null };
}

const PLATFORM_ROW = PLATFORM_NAMES.workspaces(false);

/** What is wrong with the rows before anybody looks at the declaration in them. */
function rowProblems(
  entries: readonly Entry[],
  { sharers, workspace }: Entry,
  { joinsById }: PlatformRows,
): readonly string[] {
  const { namespace, name, id } = workspace;
  if (entries.length > 1)
    return [
      `${entries.length} rows have this name; select another column as name, or a namespace that tells them apart`,
    ];
  const problems: string[] = [];
  if (!isText(name) || !isName(name))
    problems.push(
      `name: must be ${NAME_RULE}; it is shown by its id. \`id as name\` in the query names every workspace so`,
    );
  if (isText(namespace) && !isName(namespace)) problems.push(`namespace: must be ${NAME_RULE}`);
  if (joinsById && !isText(id)) problems.push('id: is required, for plugins name their workspace by it');
  else if (sharers > 1) problems.push(`id: ${sharers} rows have it, so it is not known whose the plugins are`);
  return [...problems, ...targetProblems(workspace)];
}

function targetProblems(row: Row): readonly string[] {
  const given = PLACE_COLUMNS.filter((column) => isGiven(row[column]));
  if (given.length > 1) return [`${given.join(', ')}: only one of them may say where it runs`];
  if (isGiven(row['docker_engine']) && given.length === 1 && given[0] !== 'docker_container')
    return [`docker_engine: does not go with ${given[0] ?? ''}`];
  if (isGiven(row['ec2_region']) && given[0] !== 'ec2_instance_id' && !isOnly(row, 'ec2_instance_id'))
    return [`ec2_region: does not go without ec2_instance_id`];
  if (given.length === 0 && !isDockerByDefault(row) && !isOnly(row, 'ec2_instance_id'))
    return ['says nowhere where it runs: no target'];
  return [];
}

/** Where only containers can be named, a row that names none means the one found by its label or its id. */
function isDockerByDefault(row: Row): boolean {
  return isGiven(row['docker_engine']) || isOnly(row, 'docker_container');
}

/** Where only instances can be named, a row that names none yet means the one found by its tag, and waits for it. */
function isOnly(row: Row, place: (typeof PLACE_COLUMNS)[number]): boolean {
  return PLACE_COLUMNS.every((column) => column in row === (column === place));
}

function manifestFrom(key: WorkspaceKey, { workspace, plugins }: Entry): RowManifest {
  const { id, runtime, labels, annotations, policy, suspend } = workspace;
  // A name of its own, for the compiler refuses keys in a literal that the type does not know.
  const manifest = {
    metadata: {
      ...splitWorkspaceKey(key),
      ...filled({ labels: jsonOf(labels), annotations: jsonOf(annotations) }),
    },
    spec: {
      ...filled({ id, runtime, policy: jsonOf(policy), suspend }),
      target: targetFrom(workspace),
      plugins: plugins.map(({ name, source, digest, config }) =>
        filled({ name, source, digest, config: jsonOf(config) }),
      ),
    },
  };
  return manifest;
}

function targetFrom(row: Row): unknown {
  const { target, docker_container: container, docker_engine: engine, directory_path: path } = row;
  const { ec2_instance_id: instanceId, ec2_region: region } = row;
  if (isGiven(target)) return jsonOf(target);
  if (isGiven(path)) return { directory: { path } };
  if (isGiven(instanceId) || isOnly(row, 'ec2_instance_id')) return { ec2: filled({ instanceId, region }) };
  return { docker: filled({ container, engine }) };
}

/** A platform may keep JSON in a column of type text; what is no JSON is left for the schema to refuse. */
function jsonOf(value: unknown): unknown {
  if (!isText(value)) return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

/** Our own columns cannot hold U+0000 or half a surrogate pair, which the type json of Postgres lets pass. */
function unstorable(entries: readonly Entry[]): readonly string[] {
  let isFine = true;
  const look = (text: string): void => {
    isFine &&= !text.includes('\0') && Buffer.from(text).toString() === text;
  };
  JSON.stringify(entries, (name, value: unknown) => {
    look(name);
    if (isText(value)) look(value);
    return value;
  });
  return isFine ? [] : ['a JSON column holds a character that cannot be stored (U+0000 or half a surrogate pair)'];
}

/** NULL in a row is what a key left out is in a file. */
function filled(row: Row): Row {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => isGiven(value)));
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}
