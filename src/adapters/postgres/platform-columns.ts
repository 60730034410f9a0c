import { terminal } from '../../domain/errors.ts';

/** The two queries over a platform's own tables. */
export interface PlatformQueries {
  readonly workspaces: string;
  readonly plugins: string;
}

/** Where a query is configured, for messages. */
export const QUERY_SETTING = 'store.postgres.query';

/** Columns of which one says where a workspace runs. */
export const PLACE_COLUMNS = ['target', 'docker_container', 'directory_path', 'ec2_instance_id'] as const;

const COLUMNS = {
  workspaces: [
    'name',
    'namespace',
    'id',
    'runtime',
    'target',
    'docker_container',
    'docker_engine',
    'directory_path',
    'ec2_instance_id',
    'ec2_region',
    'labels',
    'annotations',
    'policy',
    'suspend',
  ],
  plugins: ['workspace_id', 'workspace', 'namespace', 'name', 'source', 'digest', 'config', 'position'],
} as const satisfies Readonly<Record<keyof PlatformQueries, readonly string[]>>;

/** Columns that each query has; all of them are known ones. */
export interface PlatformColumns {
  readonly workspaces: ReadonlySet<string>;
  readonly plugins: ReadonlySet<string>;
  /** Plugins name their workspace by its id; else by its namespace and name. */
  readonly joinsById: boolean;
}

/**
 * Says what each column of the queries is. Throws terminal `InvalidSpec` with every problem: a column that is needed and
 * missing, or one that nobody reads, which may be a misspelt one.
 */
export function checkColumns(workspaces: readonly string[], plugins: readonly string[]): PlatformColumns {
  const columns = { workspaces: new Set(workspaces), plugins: new Set(plugins) };
  const joinsById = columns.plugins.has('workspace_id');
  const problems = [
    ...missing('workspaces', columns.workspaces, ['name', 'runtime']),
    ...unknown('workspaces', workspaces),
    ...targetProblems(columns.workspaces),
    ...missing('plugins', columns.plugins, ['name', 'source']),
    ...unknown('plugins', plugins),
    ...joinProblems(columns),
  ];
  if (problems.length > 0) throw terminal('InvalidSpec', problems.join('; '));
  return { ...columns, joinsById };
}

function missing(
  query: keyof PlatformQueries,
  columns: ReadonlySet<string>,
  needed: readonly string[],
): readonly string[] {
  const absent = needed.filter((column) => !columns.has(column));
  return absent.map((column) => `${QUERY_SETTING}.${query} must select a column ${column}`);
}

function unknown(query: keyof PlatformQueries, columns: readonly string[]): readonly string[] {
  const known: readonly string[] = COLUMNS[query];
  const odd = columns.filter((column) => !known.includes(column));
  const twice = columns.filter((column, index) => columns.indexOf(column) !== index);
  return [
    ...odd.map((column) => `${QUERY_SETTING}.${query}: unknown column ${column}; known are ${known.join(', ')}`),
    ...twice.map((column) => `${QUERY_SETTING}.${query} selects the column ${column} twice`),
  ];
}

function targetProblems(columns: ReadonlySet<string>): readonly string[] {
  if (PLACE_COLUMNS.some((column) => columns.has(column))) return [];
  return [`${QUERY_SETTING}.workspaces must select where they run: ${PLACE_COLUMNS.join(', ')}`];
}

function joinProblems({ workspaces, plugins }: Omit<PlatformColumns, 'joinsById'>): readonly string[] {
  const [byId, byName] = [plugins.has('workspace_id'), plugins.has('workspace')];
  if (byId === byName)
    return [
      `${QUERY_SETTING}.plugins must say whose they are: by workspace_id, or by workspace (its name); one of them`,
    ];
  if (byId && !workspaces.has('id'))
    return [`${QUERY_SETTING}.plugins has workspace_id, so ${QUERY_SETTING}.workspaces must select id`];
  if (byName && workspaces.has('namespace') !== plugins.has('namespace'))
    return [`${QUERY_SETTING}: the plugins name their workspace by its name, so both queries or none select namespace`];
  return [];
}
