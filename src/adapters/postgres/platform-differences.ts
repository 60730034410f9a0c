import type { PlatformColumns, PlatformQueries } from './platform-columns.ts';

/** Raised when the same rows come to mean another declaration, so that every one is read anew. */
const MAPPING = 1;

/** Those that hold JSON. Any other is taken as text, whatever its type. */
const JSON_COLUMNS: ReadonlySet<string> = new Set(['target', 'labels', 'annotations', 'policy', 'suspend', 'config']);

/**
 * Selects what differs from `plugset.declarations`, in one statement and so at one moment. A workspace is one row: its own
 * row and those of its plugins as one JSON text, in an order that does not depend on where the platform's rows lie. The
 * first columns count what was read and are there even when nothing differs.
 *
 * `::text` and `to_json` never fail on a value, so that an odd one is the problem of its own row.
 */
export function differencesSql(queries: PlatformQueries, columns: PlatformColumns): string {
  const { joinsById } = columns;
  // By bytes: the order and the speed of any other collation is the database's own.
  const bytes = (expression: string): string => `(${expression}) collate "C"`;
  const workspaceColumn = (name: string): string => (columns.workspaces.has(name) ? `q.${name}::text` : 'null::text');
  const pluginNamespace = columns.plugins.has('namespace') ? `coalesce(q.namespace::text, 'default')` : `'default'`;
  const owner = joinsById ? 'q.workspace_id::text' : `${pluginNamespace} || '/' || q.workspace::text`;
  return `
with w as (
  select ${bytes(`coalesce(${workspaceColumn('namespace')}, 'default')`)} as namespace, ${bytes('q.name::text')} as name,
         ${bytes(workspaceColumn('id'))} as id,
         ${documentOf(columns.workspaces, [])} as doc
    from (
${queries.workspaces}
    ) q),
p as (
  select ${bytes(owner)} as owner, ${bytes('q.name::text')} as name, ${columns.plugins.has('position') ? 'q.position' : '1'} as position,
         ${documentOf(columns.plugins, ['workspace_id', 'workspace', 'namespace', 'position'])} as doc
    from (
${queries.plugins}
    ) q),
sets as (
  select owner, count(*) as plugins,
         string_agg(doc, ',' order by position, name, doc collate "C") as docs
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
         (select count(*) from p where owner is null)::float8 as ownerless,
         (select count(*) from named where name is null)::float8 as nameless,
         (select count(*) from plugset.declarations where deleted_at is null)::float8 as recorded,
         case when exists (select from p) then 0 else (
           select count(*) from read r
             join plugset.declarations d on d.namespace collate "C" = r.namespace and d.name collate "C" = r.name
            where d.deleted_at is null and d.manifest #> '{spec,plugins,0}' is not null) end::float8 as stripped,
         (select count(*) from plugset.workspaces)::float8 as unread),
changes as (
  select coalesce(r.namespace, d.namespace) as namespace, coalesce(r.name, d.name) as name,
         r.id as platform_id, r.entries, r.row_digest, d.digest as recorded_digest,
         d.generation::float8 as recorded_generation, d.deleted_at is not null as was_deleted,
         floor(extract(epoch from d.declared_at) * 1000)::float8 as recorded_declared_at_ms,
         coalesce(d.platform_id collate "C" in (select id from w where id is not null), false) as is_renamed
    from read r
    full join plugset.declarations d on d.namespace collate "C" = r.namespace and d.name collate "C" = r.name
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
