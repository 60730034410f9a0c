-- Whether a workspace may be restarted to take changes up.

alter table plugset.workspaces
  drop constraint "policy_keys_are_mode_drift_prune_adopt_allowEmpty_deletion",
  add constraint "policy_keys_are_the_ones_of_the_comment"
    check (case jsonb_typeof(policy)
             when 'object' then policy - '{mode,drift,prune,adopt,allowEmpty,restart,deletion}'::text[] = '{}' end),
  add constraint "policy_restart_is_IfNeeded_Never" check (policy -> 'restart' <@ '["IfNeeded", "Never"]');

comment on column plugset.workspaces.policy is
  'What plugset may do; absent keys take the operator''s defaults: {"mode": "Observe|Plan|Apply", "drift": "Off|Warn|Enforce", "prune": "Off|Managed|All", "adopt": "Equal|Replace", "allowEmpty": false, "restart": "IfNeeded|Never", "deletion": "Remove|Orphan"}.';
