-- Workspaces that are pods.

create or replace function plugset.target_kind(target jsonb) returns text
  language sql immutable strict parallel safe
  return case
    when jsonb_typeof(target) <> 'object' then null
    when target - 'docker' = '{}' and jsonb_typeof(target -> 'docker') = 'object' then 'docker'
    when target - 'directory' = '{}' and jsonb_typeof(target -> 'directory') = 'object' then 'directory'
    when target - 'ssh' = '{}' and jsonb_typeof(target -> 'ssh') = 'object' then 'ssh'
    when target - 'ec2' = '{}' and jsonb_typeof(target -> 'ec2') = 'object' then 'ec2'
    when target - 'pod' = '{}' and jsonb_typeof(target -> 'pod') = 'object' then 'pod'
    when target - 'external' = '{}' and jsonb_typeof(target -> 'external') = 'object' then 'external'
  end;

alter table plugset.workspaces
  rename constraint target_has_exactly_one_of_docker_directory_ssh_ec2_external
  to target_has_exactly_one_of_docker_directory_ssh_ec2_pod_external;

comment on column plugset.workspaces.target is
  'Where the workspace runs; exactly one of {"docker": {"container": "ws-alice", "engine": "default"}} (both keys optional), {"directory": {"path": "/srv/alice"}}, {"ssh": {"host": "alice.example.com", "port": 22, "user": "ubuntu"}} (port and user optional), {"ec2": {"instanceId": "i-0123456789abcdef0"}}, {"pod": {"name": "alice-0", "container": "agent"}} (both keys optional, in the namespace of the workspace), {"external": {}}. The kind cannot change under a name.';
