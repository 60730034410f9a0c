-- What people declare (workspaces, plugins), what is left to clean up (tombstones), what plugset reports (status).
--
-- The triggers run as the owner of the schema (security definer), so that `grant select, insert, update, delete on
-- plugset.workspaces, plugset.plugins` is all that a platform's own role needs.

comment on schema plugset is
  'Declared plugins of agent workspaces and what plugset reports about them. People write workspaces and plugins, and read the views status and plugin_status; the rest belongs to plugset.';

create table plugset.meta (
  key text primary key,
  value text not null
);
comment on table plugset.meta is 'Facts about this database as a whole; written once.';
comment on column plugset.meta.key is 'authority: the id under which the controllers of this database sign what they write on targets.';
comment on column plugset.meta.value is 'The fact.';
insert into plugset.meta (key, value) values ('authority', gen_random_uuid()::text);

-- One number for every change anywhere: a change of a key always has a higher one than the change before it, even
-- when the row was deleted and inserted again in between.
create sequence plugset.change_number;
comment on sequence plugset.change_number is 'Numbers the changes in workspaces.dirty and tombstones.dirty.';

create function plugset.is_name(text) returns boolean
  language sql immutable strict parallel safe
  return $1 ~ '^[a-z0-9][a-z0-9._-]{0,127}$';
comment on function plugset.is_name is
  'The grammar of names: lower-case letters, digits, dot, underscore and hyphen, starting with a letter or digit, at most 128 characters.';

create function plugset.target_kind(target jsonb) returns text
  language sql immutable strict parallel safe
  return case
    when jsonb_typeof(target) <> 'object' then null
    when target - 'docker' = '{}' and jsonb_typeof(target -> 'docker') = 'object' then 'docker'
    when target - 'directory' = '{}' and jsonb_typeof(target -> 'directory') = 'object' then 'directory'
    when target - 'external' = '{}' and jsonb_typeof(target -> 'external') = 'object' then 'external'
  end;
comment on function plugset.target_kind is
  'The one known key of a target, or null when it is not an object with exactly one known key that holds an object.';

create table plugset.workspaces (
  namespace text not null default 'default',
  name text not null,
  id text,
  runtime text not null,
  target jsonb not null,
  policy jsonb not null default '{}',
  suspend boolean not null default false,
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  generation bigint not null default 1,
  dirty bigint not null default 0,
  declared_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  changed_in xid8,
  primary key (namespace, name),
  constraint namespace_is_lower_case_letters_digits_dot_underscore_hyphen check (plugset.is_name(namespace)),
  constraint name_is_lower_case_letters_digits_dot_underscore_hyphen check (plugset.is_name(name)),
  constraint id_is_letters_digits_dot_underscore_hyphen check (id ~ '^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$'),
  constraint runtime_has_1_to_128_characters check (length(runtime) between 1 and 128),
  constraint target_has_exactly_one_of_docker_directory_external check (plugset.target_kind(target) is not null),
  constraint policy_is_an_object check (jsonb_typeof(policy) = 'object'),
  constraint policy_keys_are_drift_prune_adopt_deletion
    check (case jsonb_typeof(policy) when 'object' then policy - '{drift,prune,adopt,deletion}'::text[] = '{}' end),
  constraint "policy_drift_is_Off_Warn_Enforce" check (policy -> 'drift' <@ '["Off", "Warn", "Enforce"]'),
  constraint "policy_prune_is_Off_Managed_All" check (policy -> 'prune' <@ '["Off", "Managed", "All"]'),
  constraint "policy_adopt_is_Equal" check (policy -> 'adopt' <@ '["Equal"]'),
  constraint "policy_deletion_is_Remove_Orphan" check (policy -> 'deletion' <@ '["Remove", "Orphan"]'),
  constraint labels_is_an_object check (jsonb_typeof(labels) = 'object'),
  constraint annotations_is_an_object check (jsonb_typeof(annotations) = 'object'),
  constraint labels_and_annotations_are_at_most_64_KiB_each
    check (octet_length(labels::text) <= 65536 and octet_length(annotations::text) <= 65536)
);
comment on table plugset.workspaces is
  'One row for each agent workspace whose plugins plugset keeps as declared. Shortest: insert into plugset.workspaces (name, runtime, target) values (''alice'', ''claude-code'', ''{"docker": {}}''). Deleting a row leaves a tombstone until the target is clean.';
comment on column plugset.workspaces.namespace is 'Group of workspaces with rules of its own; same grammar as name.';
comment on column plugset.workspaces.name is 'Lower-case letters, digits, dot, underscore, hyphen; at most 128 characters. Cannot be changed: delete and insert.';
comment on column plugset.workspaces.id is 'Id of the workspace on its platform; null means: the name. Docker finds the container ws-<its first 12 characters>.';
comment on column plugset.workspaces.runtime is 'Agent software in the workspace, e.g. claude-code; says where plugins go. Hyphen and underscore are equal.';
comment on column plugset.workspaces.target is
  'Where the workspace runs; exactly one of {"docker": {"container": "ws-alice", "engine": "default"}} (both keys optional), {"directory": {"path": "/srv/alice"}}, {"external": {}}. The kind cannot change under a name.';
comment on column plugset.workspaces.policy is
  'What plugset may do; absent keys take the operator''s defaults: {"drift": "Off|Warn|Enforce", "prune": "Off|Managed|All", "adopt": "Equal", "deletion": "Remove|Orphan"}.';
comment on column plugset.workspaces.suspend is 'true: nothing is looked at or changed until it is false again.';
comment on column plugset.workspaces.labels is 'Free text values for people and selections: {"org": "acme"}.';
comment on column plugset.workspaces.annotations is
  'Free text values. A new value of "plugset.dev/requestedAt" asks for a pass at once; no annotation raises the generation.';
comment on column plugset.workspaces.generation is
  'Set by trigger: rises by one with every transaction that changes this row''s spec or its plugins. Raise it by hand to have the declaration taken as new.';
comment on column plugset.workspaces.dirty is 'Set by trigger: number of the last change; a status with the same number in workspace_status.handled speaks of it.';
comment on column plugset.workspaces.declared_at is 'Set by trigger: when this generation was written.';
comment on column plugset.workspaces.created_at is 'Set by trigger: when this row was inserted.';
comment on column plugset.workspaces.changed_in is 'Set by trigger: the transaction that wrote this generation.';

create table plugset.plugins (
  namespace text not null default 'default',
  workspace text not null,
  name text not null,
  source text not null,
  digest text,
  config jsonb,
  position bigint generated always as identity,
  primary key (namespace, workspace, name),
  constraint workspace_must_be_inserted_first foreign key (namespace, workspace)
    references plugset.workspaces (namespace, name) on delete cascade,
  constraint name_is_lower_case_letters_digits_dot_underscore_hyphen check (plugset.is_name(name)),
  constraint source_has_1_to_2048_characters check (length(source) between 1 and 2048),
  constraint digest_is_sha256_colon_64_lower_case_hex_digits check (digest ~ '^sha256:[0-9a-f]{64}$'),
  constraint config_is_an_object check (jsonb_typeof(config) = 'object'),
  constraint config_is_at_most_64_KiB check (octet_length(config::text) <= 65536)
);
comment on table plugset.plugins is
  'One row for each plugin that should be in a workspace. Shortest: insert into plugset.plugins (workspace, name, source) values (''alice'', ''superpowers'', ''github://obra/superpowers#v4.1.0''). Deleting a row removes the plugin from the workspace.';
comment on column plugset.plugins.namespace is 'Namespace of the workspace.';
comment on column plugset.plugins.workspace is 'Name of the workspace; its row must exist.';
comment on column plugset.plugins.name is 'Directory under plugins/ that the plugin is installed as; its identity in the workspace.';
comment on column plugset.plugins.source is
  'Where it comes from: scheme://spec, e.g. github://owner/repo#v1.2.0, local://name, or a bare name for the local registry.';
comment on column plugset.plugins.digest is 'Optional tree digest that was reviewed (sha256: and 64 hex digits); other content is refused.';
comment on column plugset.plugins.config is 'Optional settings of the plugin, a JSON object. Kept, not yet delivered.';
comment on column plugset.plugins.position is 'Set by the database: plugins are shown in the order in which they were inserted.';

create table plugset.tombstones (
  namespace text not null,
  name text not null,
  manifest jsonb not null,
  generation bigint not null,
  dirty bigint not null,
  deleted_at timestamptz not null default clock_timestamp(),
  primary key (namespace, name)
);
comment on table plugset.tombstones is
  'Workspaces whose row was deleted and whose target plugset has still to clean. Inserting the workspace again removes the tombstone; deleting a tombstone by hand leaves the target as it is.';
comment on column plugset.tombstones.namespace is 'Namespace of the deleted workspace.';
comment on column plugset.tombstones.name is 'Name of the deleted workspace.';
comment on column plugset.tombstones.manifest is 'What was declared when the row was deleted: {"metadata": {…}, "spec": {…, "plugins": […]}}.';
comment on column plugset.tombstones.generation is 'Generation of the deletion, one above the last declaration.';
comment on column plugset.tombstones.dirty is 'Number of the last change, as in workspaces.';
comment on column plugset.tombstones.deleted_at is 'When the row was deleted.';

create table plugset.workspace_status (
  namespace text not null,
  name text not null,
  status jsonb not null,
  handled bigint not null default 0,
  fence_epoch bigint not null,
  fence_n bigint not null,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (namespace, name)
);
create index workspace_status_fence on plugset.workspace_status (fence_epoch, fence_n);
comment on table plugset.workspace_status is
  'What plugset last reported about a workspace; written by plugset only. Easier to read: the views status and plugin_status. Outlives the workspace row until its target is clean.';
comment on column plugset.workspace_status.namespace is 'Namespace of the workspace.';
comment on column plugset.workspace_status.name is 'Name of the workspace.';
comment on column plugset.workspace_status.status is 'The whole status: conditions, plugins, summary, history.';
comment on column plugset.workspace_status.handled is 'The value of workspaces.dirty (or tombstones.dirty) that the pass behind this status had read.';
comment on column plugset.workspace_status.fence_epoch is 'Life of the lease under which this was written; see leases.epoch.';
comment on column plugset.workspace_status.fence_n is 'Turn under which this was written; a write of an older turn is refused.';
comment on column plugset.workspace_status.updated_at is 'When this was written.';

-- The declaration of one row in the shape of a YAML file, without the two constant header lines.
create function plugset.manifest_of(w plugset.workspaces) returns jsonb
  language sql stable parallel safe
begin atomic
  select jsonb_build_object(
    'metadata', jsonb_build_object(
      'namespace', w.namespace, 'name', w.name, 'labels', w.labels, 'annotations', w.annotations),
    'spec', jsonb_build_object(
        'runtime', w.runtime, 'target', w.target, 'policy', w.policy, 'suspend', w.suspend,
        'plugins', coalesce((
          select jsonb_agg(
              jsonb_build_object('name', p.name, 'source', p.source)
                || case when p.digest is null then '{}' else jsonb_build_object('digest', p.digest) end
                || case when p.config is null then '{}' else jsonb_build_object('config', p.config) end
              order by p.position)
            from plugset.plugins p
           where p.namespace = w.namespace and p.workspace = w.name), '[]'))
      || case when w.id is null then '{}' else jsonb_build_object('id', w.id) end);
end;
comment on function plugset.manifest_of is 'A workspace row and its plugin rows as one document: {"metadata": {…}, "spec": {…}}.';

create function plugset.workspace_numbered() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  new.generation := 1;
  new.dirty := nextval('plugset.change_number');
  new.declared_at := clock_timestamp();
  new.created_at := clock_timestamp();
  new.changed_in := pg_current_xact_id();
  return new;
end $$;

-- After, not before: the insert has then waited for a transaction that deletes the same key, and sees its tombstone.
create function plugset.workspace_inserted() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  tombstone plugset.tombstones;
  old_kind text;
begin
  delete from plugset.tombstones t where t.namespace = new.namespace and t.name = new.name returning * into tombstone;
  if not found then
    return null;
  end if;
  old_kind := plugset.target_kind(tombstone.manifest #> '{spec,target}');
  if old_kind <> plugset.target_kind(new.target) then
    raise exception 'workspace %/% was deleted and its target (%) is not clean yet; insert it with the same kind of target, wait until plugset.tombstones no longer lists it, or choose another name',
      new.namespace, new.name, old_kind
      using errcode = 'check_violation', constraint = 'kind_of_target_cannot_change';
  end if;
  update plugset.workspaces w set generation = tombstone.generation + 1
   where w.namespace = new.namespace and w.name = new.name;
  return null;
end $$;

create function plugset.workspace_updated() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  asked_generation bigint := new.generation;
  -- plugins_changed() sets changed_in to null to say that the spec changed though this row did not.
  spec_changed boolean := new.changed_in is null
    or new.generation > old.generation
    or (new.id, new.runtime, new.target, new.policy, new.suspend)
       is distinct from (old.id, old.runtime, old.target, old.policy, old.suspend);
  -- The second half is for a restored database, in which transaction numbers start anew.
  raised_already boolean := old.changed_in = pg_current_xact_id() and old.declared_at >= now();
begin
  if (new.namespace, new.name) <> (old.namespace, old.name) then
    raise exception 'workspace %/% cannot be renamed; delete it and insert %/%', old.namespace, old.name, new.namespace, new.name
      using errcode = 'check_violation', constraint = 'name_cannot_change';
  end if;
  if plugset.target_kind(new.target) <> plugset.target_kind(old.target) then
    raise exception 'the target of workspace %/% is % and cannot become % under the same name; delete the workspace and insert it anew once its target is clean',
      old.namespace, old.name, plugset.target_kind(old.target), plugset.target_kind(new.target)
      using errcode = 'check_violation', constraint = 'kind_of_target_cannot_change';
  end if;
  new.generation := old.generation;
  new.dirty := old.dirty;
  new.declared_at := old.declared_at;
  new.created_at := old.created_at;
  new.changed_in := old.changed_in;
  if spec_changed then
    new.generation := greatest(asked_generation, old.generation + case when raised_already then 0 else 1 end);
    new.declared_at := clock_timestamp();
    new.changed_in := pg_current_xact_id();
  end if;
  if spec_changed or (new.labels, new.annotations) is distinct from (old.labels, old.annotations) then
    new.dirty := nextval('plugset.change_number');
  end if;
  return new;
end $$;

create function plugset.workspace_deleted() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into plugset.tombstones (namespace, name, manifest, generation, dirty)
  values (old.namespace, old.name, plugset.manifest_of(old), old.generation + 1, nextval('plugset.change_number'))
  on conflict (namespace, name) do update
    set manifest = excluded.manifest, generation = excluded.generation, dirty = excluded.dirty, deleted_at = excluded.deleted_at;
  return old;
end $$;

-- Wakes the controller: `namespace/name dirty`. A hint only: what counts is dirty itself, written in the same transaction.
create function plugset.notify_key() returns trigger
  language plpgsql as $$
begin
  perform pg_notify('plugset', new.namespace || '/' || new.name || ' ' || new.dirty);
  return null;
end $$;

create function plugset.plugins_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    update plugset.workspaces w set changed_in = null
      from (select distinct namespace, workspace from new_rows) c
     where w.namespace = c.namespace and w.name = c.workspace;
  elsif tg_op = 'DELETE' then
    update plugset.workspaces w set changed_in = null
      from (select distinct namespace, workspace from old_rows) c
     where w.namespace = c.namespace and w.name = c.workspace;
  else
    update plugset.workspaces w set changed_in = null
      from (select namespace, workspace from (
              (table new_rows except table old_rows) union all (table old_rows except table new_rows)) r
             group by namespace, workspace) c
     where w.namespace = c.namespace and w.name = c.workspace;
  end if;
  return null;
end $$;

create function plugset.refuse_truncate() returns trigger
  language plpgsql as $$
begin
  raise exception 'truncate runs none of the triggers that plugset lives by; use: delete from plugset.%', tg_table_name
    using errcode = 'check_violation', constraint = 'truncate_is_refused';
end $$;

create trigger workspace_numbered before insert on plugset.workspaces
  for each row execute function plugset.workspace_numbered();
create trigger workspace_inserted after insert on plugset.workspaces
  for each row execute function plugset.workspace_inserted();
create trigger workspace_updated before update on plugset.workspaces
  for each row execute function plugset.workspace_updated();
-- Before, because the plugin rows that the tombstone is to list go right after the workspace row.
create trigger workspace_deleted before delete on plugset.workspaces
  for each row execute function plugset.workspace_deleted();
create trigger notify_insert after insert on plugset.workspaces
  for each row execute function plugset.notify_key();
create trigger notify_update after update on plugset.workspaces
  for each row when (new.dirty <> old.dirty) execute function plugset.notify_key();
create trigger notify_tombstone after insert or update on plugset.tombstones
  for each row execute function plugset.notify_key();
create trigger plugins_inserted after insert on plugset.plugins
  referencing new table as new_rows for each statement execute function plugset.plugins_changed();
create trigger plugins_updated after update on plugset.plugins
  referencing old table as old_rows new table as new_rows for each statement execute function plugset.plugins_changed();
create trigger plugins_deleted after delete on plugset.plugins
  referencing old table as old_rows for each statement execute function plugset.plugins_changed();
create trigger refuse_truncate before truncate on plugset.workspaces
  for each statement execute function plugset.refuse_truncate();
create trigger refuse_truncate before truncate on plugset.plugins
  for each statement execute function plugset.refuse_truncate();

create view plugset.status as
  select k.namespace, k.name,
         -- What was true of an earlier generation is not known of this one.
         case when current then ready ->> 'status' else 'Unknown' end as ready,
         case when k.deleting then 'Deleting: ' else '' end || case when current then ready ->> 'reason' else 'Progressing' end as reason,
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
    cross join lateral (select coalesce((ready ->> 'observedGeneration')::bigint = k.generation, false) as current) c;
comment on view plugset.status is 'For people: one line for each workspace, deleted ones included until their target is clean.';
comment on column plugset.status.namespace is 'Namespace of the workspace.';
comment on column plugset.status.name is 'Name of the workspace.';
comment on column plugset.status.ready is 'True: everything declared is on the target, as the last look showed. False: it is not. Unknown: could not tell yet.';
comment on column plugset.status.reason is 'One word that says why; `plugset explain` tells what to do.';
comment on column plugset.status.message is 'The same in a sentence.';
comment on column plugset.status.summary is 'Installed of declared plugins.';
comment on column plugset.status.target is 'What the target is called.';
comment on column plugset.status.generation is 'Generation that is declared now.';
comment on column plugset.status.observed_generation is 'Generation that the conditions speak of; lower than generation: not carried through yet.';
comment on column plugset.status.age is 'Time since the workspace was inserted; for one that is being deleted, since then.';
comment on column plugset.status.updated_at is 'When this status was written.';

create view plugset.plugin_status as
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
         (p ->> 'since')::timestamptz as since
    from plugset.workspace_status s
   cross join lateral jsonb_array_elements(
     case jsonb_typeof(s.status -> 'plugins') when 'array' then s.status -> 'plugins' else '[]' end) p;
comment on view plugset.plugin_status is 'For people: one line for each plugin that is declared for, or was found in, a workspace.';
comment on column plugset.plugin_status.namespace is 'Namespace of the workspace.';
comment on column plugset.plugin_status.workspace is 'Name of the workspace.';
comment on column plugset.plugin_status.plugin is 'Name of the plugin: its directory under plugins/.';
comment on column plugset.plugin_status.state is 'Installed, Pending, Drifted, Failed, Removing, Held, Unmanaged or Unknown.';
comment on column plugset.plugin_status.reason is 'One word that says why; `plugset explain` tells what to do.';
comment on column plugset.plugin_status.message is 'The same in a sentence.';
comment on column plugset.plugin_status.version is 'Version as the plugin''s manifest states it.';
comment on column plugset.plugin_status.source is 'Source that it was installed from.';
comment on column plugset.plugin_status.revision is 'What the source resolved to: a commit or a content hash.';
comment on column plugset.plugin_status.digest is 'Tree that the last look found whole on the target.';
comment on column plugset.plugin_status.managed is 'true: installed by plugset.';
comment on column plugset.plugin_status.since is 'Since when state and reason are what they are.';
