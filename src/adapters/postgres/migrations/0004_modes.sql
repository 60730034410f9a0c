-- Modes, replacing of foreign directories, and leave to remove much at once.

alter table plugset.workspaces
  drop constraint policy_keys_are_drift_prune_adopt_deletion,
  drop constraint "policy_adopt_is_Equal",
  add constraint "policy_keys_are_mode_drift_prune_adopt_allowEmpty_deletion"
    check (case jsonb_typeof(policy)
             when 'object' then policy - '{mode,drift,prune,adopt,allowEmpty,deletion}'::text[] = '{}' end),
  add constraint "policy_mode_is_Observe_Plan_Apply" check (policy -> 'mode' <@ '["Observe", "Plan", "Apply"]'),
  add constraint "policy_adopt_is_Equal_Replace" check (policy -> 'adopt' <@ '["Equal", "Replace"]'),
  add constraint "policy_allowEmpty_is_true_false" check (policy -> 'allowEmpty' <@ '[true, false]');

comment on column plugset.workspaces.policy is
  'What plugset may do; absent keys take the operator''s defaults: {"mode": "Observe|Plan|Apply", "drift": "Off|Warn|Enforce", "prune": "Off|Managed|All", "adopt": "Equal|Replace", "allowEmpty": false, "deletion": "Remove|Orphan"}.';
comment on column plugset.workspaces.annotations is
  'Free text values; no annotation raises the generation. A new value of "plugset.dev/requestedAt" asks for a pass at once; "plugset.dev/approved-plan" agrees to the plan of that id (planId of the status), one time for each value.';
