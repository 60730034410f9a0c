-- What people see of a workspace that is going, or that nobody can look at now.

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
          select namespace, name, generation, deleted_at, true from plugset.tombstones) k
    left join plugset.workspace_status s using (namespace, name)
    left join lateral jsonb_path_query_first(s.status, '$.conditions[*] ? (@.type == "Ready")') ready on true
    cross join lateral (select coalesce((ready ->> 'observedGeneration')::bigint = k.generation, false) as current) c
    cross join lateral (select case when current then ready ->> 'reason' end as reason) r;
comment on column plugset.status.reason is
  'One word that says why; `plugset explain` tells what to do. Deleting: no longer declared, its target is cleaned first; after a colon, what holds that up.';

create or replace view plugset.plugin_status as
  select s.namespace, s.name as workspace,
         p ->> 'name' as plugin,
         p ->> 'state' as state,
         p ->> 'reason' as reason,
         p ->> 'message' as message,
         p ->> 'version' as version,
         p ->> 'source' as source,
         p ->> 'revision' as revision,
         p ->> 'digest' as digest,
         (p ->> 'managed')::boolean as managed,
         (p ->> 'since')::timestamptz as since,
         (p ->> 'seenAt')::timestamptz as seen_at,
         coalesce((p ->> 'stalled')::boolean, false) as stalled
    from plugset.workspace_status s
   cross join lateral jsonb_array_elements(
     case jsonb_typeof(s.status -> 'plugins') when 'array' then s.status -> 'plugins' else '[]' end) p;
comment on column plugset.plugin_status.seen_at is
  'Only while nobody can look: when revision and version were still seen.';
comment on column plugset.plugin_status.stalled is
  'true: trying again cannot help, a person has to change something.';
