-- What plugset remembers of workspaces that a platform declares in tables of its own (store.postgres.query): how often
-- each declaration changed, since when it stands, and what it said once its row is gone.

create table plugset.declarations (
  namespace text not null,
  name text not null,
  platform_id text,
  row_digest text not null,
  digest text not null,
  manifest jsonb,
  problems jsonb,
  requests jsonb not null default '{}',
  generation bigint not null,
  dirty bigint not null,
  declared_at timestamptz not null,
  deleted_at timestamptz,
  primary key (namespace, name),
  constraint keys_are_names check (plugset.is_name(namespace) and plugset.is_name(name)),
  constraint problems_are_a_list check (jsonb_typeof(problems) = 'array')
);
comment on table plugset.declarations is
  'Workspaces as they were last read of a platform''s own tables; written by plugset only, and only in that mode. Deleting a row by hand forgets the workspace: it is read again, and begins anew with generation 1.';
comment on column plugset.declarations.namespace is 'Namespace of the workspace.';
comment on column plugset.declarations.name is 'Name of the workspace.';
comment on column plugset.declarations.platform_id is 'The column id of its row: tells a workspace that was renamed from one that was deleted.';
comment on column plugset.declarations.row_digest is 'Digest of its row and its plugins'' rows; while a read has the same one, nothing has changed.';
comment on column plugset.declarations.digest is 'Digest of what the generation stands for: the spec without labels and annotations.';
comment on column plugset.declarations.manifest is 'The last usable declaration: {"metadata": {…}, "spec": {…, "plugins": […]}}; null when there never was one.';
comment on column plugset.declarations.problems is 'Why the rows cannot be used as they stand now; null when they can.';
comment on column plugset.declarations.requests is 'What people asked for (plugset reconcile, approve, takeover), by annotation.';
comment on column plugset.declarations.generation is 'Rises by one with every change of the spec.';
comment on column plugset.declarations.dirty is 'Number of the last change, as in workspaces.';
comment on column plugset.declarations.declared_at is 'When this generation was first read.';
comment on column plugset.declarations.deleted_at is 'Since when the row is gone and the target is not clean yet; null while it is there.';

create trigger notify_insert after insert on plugset.declarations
  for each row execute function plugset.notify_key();
create trigger notify_update after update on plugset.declarations
  for each row when (new.dirty <> old.dirty) execute function plugset.notify_key();

create or replace view plugset.status as
  select k.namespace, k.name,
         -- What was true of an earlier generation is not known of this one.
         case when current then ready ->> 'status' else 'Unknown' end as ready,
         case when not k.deleting then coalesce(reason, 'Progressing')
              when coalesce(reason, 'Deleting') in ('Deleting', 'Succeeded') then 'Deleting'
              else 'Deleting: ' || reason end as reason,
         case when current then ready ->> 'message' else 'no pass over this generation has ended yet' end as message,
         s.status ->> 'summary' as summary,
         s.status ->> 'target' as target,
         k.generation,
         (s.status ->> 'observedGeneration')::bigint as observed_generation,
         date_trunc('second', clock_timestamp() - k.since) as age,
         s.updated_at
    from (select namespace, name, generation, created_at as since, false as deleting from plugset.workspaces
          union all
          select namespace, name, generation, deleted_at, true from plugset.tombstones
          union all
          select namespace, name, generation, coalesce(deleted_at, declared_at), deleted_at is not null
            from plugset.declarations) k
    left join plugset.workspace_status s using (namespace, name)
    left join lateral jsonb_path_query_first(s.status, '$.conditions[*] ? (@.type == "Ready")') ready on true
    cross join lateral (select coalesce((ready ->> 'observedGeneration')::bigint = k.generation, false) as current) c
    cross join lateral (select case when current then ready ->> 'reason' end as reason) r;
