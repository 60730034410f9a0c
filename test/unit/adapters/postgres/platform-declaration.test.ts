import { describe, expect, test } from 'vitest';

import { declarationFrom, type PlatformDeclaration } from '../../../../src/adapters/postgres/platform-declaration.ts';
import { parseWorkspaceKey, type WorkspaceKey } from '../../../../src/domain/name.ts';

const ALICE = parseWorkspaceKey('team-a/alice') as WorkspaceKey;
const ROW = 'row of store.postgres.query.workspaces (team-a, alice)';
const WORKSPACE = {
  id: 'a1',
  namespace: 'team-a',
  name: 'alice',
  runtime: 'claude-code',
  directory_path: '/srv/alice',
};
const PLUGIN = { name: 'superpowers', source: 'local://superpowers', digest: null };

type Row = Readonly<Record<string, unknown>>;

function declared(workspace: Row, plugins: readonly Row[] = [PLUGIN], sharers = 1): PlatformDeclaration {
  return declaredBy([{ sharers, workspace, plugins }]);
}

function declaredBy(entries: readonly unknown[]): PlatformDeclaration {
  return declarationFrom({ key: ALICE, entries: JSON.stringify(entries), rowDigest: 'd', joinsById: true });
}

describe('what the rows of a platform declare', () => {
  test('NULL is what a key left out is in a file', () => {
    const { manifest, problems } = declared({ ...WORKSPACE, labels: null, policy: null, suspend: null });
    expect(problems).toBeNull();
    expect(manifest).toMatchObject({
      metadata: { namespace: 'team-a', name: 'alice' },
      spec: {
        id: 'a1',
        runtime: 'claude-code',
        target: { directory: { path: '/srv/alice' } },
        plugins: [{ name: 'superpowers', source: 'local://superpowers' }],
      },
    });
  });

  const { directory_path: _, ...NOWHERE } = WORKSPACE;

  test.each([
    [{ docker_container: 'ws-1', docker_engine: 'second' }, { docker: { container: 'ws-1', engine: 'second' } }],
    [{ docker_container: 'ws-1', directory_path: null }, { docker: { container: 'ws-1' } }],
    [{ docker_container: null }, { docker: {} }],
    [{ directory_path: null, docker_engine: 'second' }, { docker: { engine: 'second' } }],
    [{ target: { external: {} }, directory_path: null }, { external: {} }],
    [{ ec2_instance_id: 'i-0123456789abcdef0' }, { ec2: { instanceId: 'i-0123456789abcdef0' } }],
    [
      { ec2_instance_id: 'i-01234567', ec2_region: 'us-east-2', docker_container: null },
      { ec2: { instanceId: 'i-01234567', region: 'us-east-2' } },
    ],
    [{ ec2_instance_id: null }, { ec2: {} }],
    [{ ec2_instance_id: null, ec2_region: 'us-east-2' }, { ec2: { region: 'us-east-2' } }],
    [{ target: '{"docker": {"container": "in-a-text-column"}}' }, { docker: { container: 'in-a-text-column' } }],
  ])('%j runs in %j', (columns, target) => {
    expect(declared({ ...NOWHERE, ...columns })).toMatchObject({ problems: null, manifest: { spec: { target } } });
  });

  test.each<[string, Row, readonly Row[]]>([
    [`${ROW}: runtime: is required`, { ...WORKSPACE, runtime: null }, [PLUGIN]],
    [`${ROW}: policy.prune: must be one of Off, Managed, All`, { ...WORKSPACE, policy: { prune: 'Some' } }, [PLUGIN]],
    [`${ROW}: labels: must be a map`, { ...WORKSPACE, labels: 'no JSON' }, [PLUGIN]],
    [`${ROW}: says nowhere where it runs: no target`, { ...WORKSPACE, directory_path: null }, [PLUGIN]],
    [`${ROW}: says nowhere where it runs: no target`, { ...NOWHERE, target: null, docker_container: null }, [PLUGIN]],
    [
      `${ROW}: docker_container, directory_path: only one of them may say where it runs`,
      { ...WORKSPACE, docker_container: 'ws-1' },
      [PLUGIN],
    ],
    [
      `${ROW}: ec2_region: does not go without ec2_instance_id`,
      { ...NOWHERE, ec2_instance_id: null, docker_container: null, ec2_region: 'us-east-2' },
      [PLUGIN],
    ],
    [
      `${ROW}: says nowhere where it runs: no target`,
      { ...NOWHERE, ec2_instance_id: null, docker_container: null },
      [PLUGIN],
    ],
    [`${ROW}: ec2_region: does not go without ec2_instance_id`, { ...WORKSPACE, ec2_region: 'us-east-2' }, [PLUGIN]],
    [`${ROW}: docker_engine: does not go with directory_path`, { ...WORKSPACE, docker_engine: 'second' }, [PLUGIN]],
    [`${ROW}: id: is required, for plugins name their workspace by it`, { ...WORKSPACE, id: null }, [PLUGIN]],
    [
      'row of store.postgres.query.plugins (team-a, alice, superpowers): source: is required',
      WORKSPACE,
      [{ ...PLUGIN, source: null }],
    ],
    [
      'row of store.postgres.query.plugins (team-a, alice, Super Powers): name: must be lower-case letters',
      WORKSPACE,
      [{ ...PLUGIN, name: 'Super Powers' }],
    ],
    [
      'row of store.postgres.query.plugins (team-a, alice, superpowers): name: plugin superpowers is declared twice',
      WORKSPACE,
      [PLUGIN, PLUGIN],
    ],
    [
      `${ROW}: a JSON column holds a character that cannot be stored`,
      WORKSPACE,
      [{ ...PLUGIN, config: { text: 'a\0b' } }],
    ],
    [`${ROW}: name: must be lower-case letters`, { ...WORKSPACE, name: 'Alice Smith' }, [PLUGIN]],
    [`${ROW}: namespace: must be lower-case letters`, { ...WORKSPACE, namespace: 'Team A' }, [PLUGIN]],
  ])('%s', (problem, workspace, plugins) => {
    const { manifest, problems } = declared(workspace, plugins);
    expect(manifest).toBeNull();
    expect(problems).toEqual([expect.stringContaining(problem)]);
  });

  test('an id or a name that several rows have belongs to none of them', () => {
    expect(declared(WORKSPACE, [PLUGIN], 2).problems).toEqual([expect.stringContaining('id: 2 rows have it')]);
    const entry = { sharers: 1, workspace: WORKSPACE, plugins: [PLUGIN] };
    expect(declaredBy([entry, entry]).problems).toEqual([expect.stringContaining('2 rows have this name')]);
  });

  test('labels and annotations are not what the generation stands for', () => {
    const labelled = declared({ ...WORKSPACE, labels: { org: 'acme' }, annotations: { note: 'n' } });
    expect(labelled.digest).toBe(declared(WORKSPACE).digest);
    expect(declared({ ...WORKSPACE, runtime: 'hermes' }).digest).not.toBe(labelled.digest);
  });
});
