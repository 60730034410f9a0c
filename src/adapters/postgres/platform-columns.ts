import { terminal } from '../../domain/errors.ts';

/** The two queries over a platform's own tables. */
export interface PlatformQueries {
  readonly workspaces: string;
  readonly plugins: string;
}

/** Where a query is configured, for messages. */
export const QUERY_SETTING = 'store.postgres.query';

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
    'labels',
    'annotations',
    'policy',
    'suspend',
  ],
  plugins: ['workspace_id', 'workspace', 'namespace', 'name', 'source', 'digest', 'config', 'position'],
} as const satisfies Readonly<Record<keyof PlatformQueries, readonly string[]>>;

/** Those that hold JSON. Any other is taken as text, whatever its type. */
const JSON_COLUMNS: ReadonlySet<string> = new Set(['target', 'labels', 'annotations', 'policy', 'suspend', 'config']);

/** Raised when the same rows come to mean another declaration, so that every one is read anew. */
const MAPPING = 1;

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
  if (['target', 'docker_container', 'directory_path'].some((column) => columns.has(column))) return [];
  return [`${QUERY_SETTING}.workspaces must select where they run: target, docker_container or directory_path`];
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

/**
 * Selects what differs from `plugset.declarations`, in one statement and so at one moment. A workspace is one row: its own
 * row and those of its plugins as one JSON text, in an order that does not depend on where the platform's rows lie. The
 * first columns count what was read and are there even when nothing differs.
 *
 * `::text` and `to_json` never fail on a value, so that an odd one is the problem of its own row.
 */
export function differencesSql(queries: PlatformQueries, columns: PlatformColumns): string {
  const { joinsById } = columns;
  const workspaceColumn = (name: string): string => (columns.workspaces.has(name) ? `q.${name}::text` : 'null::text');
  const pluginNamespace = columns.plugins.has('namespace') ? `coalesce(q.namespace::text, 'default')` : `'default'`;
  const owner = joinsById ? 'q.workspace_id::text' : `${pluginNamespace} || '/' || q.workspace::text`;
  return `
with w as (
  select coalesce(${workspaceColumn('namespace')}, 'default') as namespace, q.name::text as name, ${workspaceColumn('id')} as id,
         ${documentOf(columns.workspaces, [])} as doc
    from (
${queries.workspaces}
    ) q),
p as (
  select ${owner} as owner, q.name::text as name, ${columns.plugins.has('position') ? 'q.position' : '1'} as position,
         ${documentOf(columns.plugins, ['workspace_id', 'workspace', 'namespace', 'position'])} as doc
    from (
${queries.plugins}
    ) q),
sets as (
  select owner, count(*) as plugins,
         string_agg(doc, ',' order by position, name collate "C", doc collate "C") as docs
    from p where owner is not null group by owner),
owned as (
  select w.*, ${joinsById ? 'id' : `namespace || '/' || name`} as owner, ${joinsById ? 'count(*) over (partition by id)' : '1'} as sharers from w),
named as (
  select case when plugset.is_name(namespace) then namespace else 'default' end as namespace,
         case when has_name then o.name when plugset.is_name(id) then id end as name, id,
         '{"sharers":' || sharers || ',"workspace":' || doc || ',"plugins":[' || coalesce(docs, '') || ']}' as entry,
         plugins
    from owned o
    left join sets s using (owner)
   cross join lateral (
     select coalesce(plugset.is_name(o.name) and plugset.is_name(o.namespace), false) as has_name) grammar),
grouped as (
  select namespace, name, min(id) as id, '[' || string_agg(entry, ',' order by entry collate "C") || ']' as entries
    from named where name is not null group by namespace, name),
read as (
  select *, encode(sha256(convert_to('${MAPPING} ' || entries, 'UTF8')), 'hex') as row_digest from grouped),
totals as (
  select (select count(*) from w)::float8 as workspaces, (select count(*) from p)::float8 as plugins,
         (select coalesce(sum(plugins), 0) from named)::float8 as owned_plugins,
         (select count(*) from named where name is null)::float8 as nameless,
         (select count(*) from plugset.declarations where deleted_at is null)::float8 as recorded,
         (select count(*) from plugset.workspaces)::float8 as unread),
changes as (
  select coalesce(r.namespace, d.namespace) as namespace, coalesce(r.name, d.name) as name,
         r.id as platform_id, r.entries, r.row_digest, d.digest as recorded_digest,
         d.generation::float8 as recorded_generation, d.deleted_at is not null as was_deleted,
         floor(extract(epoch from d.declared_at) * 1000)::float8 as recorded_declared_at_ms,
         coalesce(d.platform_id in (select id from w where id is not null), false) as is_renamed
    from read r
    full join plugset.declarations d on d.namespace = r.namespace and d.name = r.name
   where case when r.name is null then d.deleted_at is null
              else d.name is null or d.row_digest <> r.row_digest or d.deleted_at is not null end)
select * from totals left join changes on true`;
}

/** A row as a JSON text of its known columns. */
function documentOf(columns: ReadonlySet<string>, without: readonly string[]): string {
  const pairs = [...columns]
    .filter((column) => !without.includes(column))
    .toSorted()
    .map((column) => `'${column}', ${JSON_COLUMNS.has(column) ? `to_json(q.${column})` : `q.${column}::text`}`);
  return `json_build_object(${pairs.join(', ')})::text`;
}
