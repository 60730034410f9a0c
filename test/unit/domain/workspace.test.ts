import { describe, expect, it } from 'vitest';

import {
  API_VERSION,
  DEFAULT_POLICY,
  overruledPolicy,
  workspaceFrom,
  workspaceSchema,
  type LockablePolicy,
  type Policy,
  type Workspace,
} from '../../../src/domain/workspace.ts';

const manifest = (over: object = {}, plugin: object = {}): object => ({
  apiVersion: API_VERSION,
  kind: 'Workspace',
  metadata: { name: 'alice' },
  spec: { runtime: 'hermes', target: { docker: {} }, plugins: [{ name: 'a', source: 'a', ...plugin }], ...over },
});
const problems = (value: object): readonly string[] => {
  const result = workspaceSchema.safeParse(value);
  return result.success ? [] : result.error.issues.map((issue) => issue.path.join('.'));
};

describe('the schema of a workspace', () => {
  it('takes the shortest declaration', () => {
    expect(problems(manifest())).toEqual([]);
  });

  it.each(['', '.', '..', 'a b', 'a"b', "a'b", 'a;b', '$(a)', 'a/b', '-a', 'A', 'a\0b', 'a\nb', 'ä', 'a'.repeat(129)])(
    'refuses the name %j',
    (name) => {
      expect(problems(manifest({}, { name }))).toEqual(['spec.plugins.0.name']);
      expect(problems({ ...manifest(), metadata: { name } })).toEqual(['metadata.name']);
    },
  );

  it.each(['-oProxyCommand=id', 'a b', 'A', 'fe80::1%eth0', '[::1]', '*.example.com', 'a,b', 'i-0123456789abcdef0'])(
    'refuses the host %j',
    (host) => {
      expect(problems(manifest({ target: { ssh: { host, user: 'a' } } }))).toHaveLength(1);
    },
  );

  it.each(['a', 'a.example.com', '10.0.0.5', '::1', 'i-0123456789abcdef0.eu-west-1.compute.internal'])(
    'takes the host %j',
    (host) => {
      expect(problems(manifest({ target: { ssh: { host, user: 'a' } } }))).toEqual([]);
    },
  );

  it('refuses two targets, an unknown one, a plugin declared twice, and keys that it does not know', () => {
    expect(problems(manifest({ target: { docker: {}, external: {} } }))).toEqual(['spec.target']);
    expect(problems(manifest({ target: { cloud: {} } }))).toEqual(['spec.target']);
    expect(
      problems(
        manifest({
          plugins: [
            { name: 'a', source: 'a' },
            { name: 'a', source: 'b' },
          ],
        }),
      ),
    ).toEqual(['spec.plugins.1.name']);
    expect(problems(manifest({}, { sauce: 'b' }))).toEqual(['spec.plugins.0']);
  });

  it('refuses payloads where settings and labels go', () => {
    expect(problems(manifest({}, { config: { text: 'x'.repeat(70_000) } }))).toEqual(['spec.plugins.0.config']);
    expect(problems({ ...manifest(), metadata: { name: 'alice', labels: { a: 'x'.repeat(70_000) } } })).toEqual([
      'metadata.labels',
    ]);
  });
});

describe('the policy of a workspace', () => {
  const withPolicy = (policy: Partial<Policy>, locked: readonly LockablePolicy[]): Workspace =>
    workspaceFrom(
      {
        apiVersion: API_VERSION,
        kind: 'Workspace',
        metadata: { name: 'alice' },
        spec: { runtime: 'hermes', target: { external: {} }, plugins: [], policy },
      },
      {
        generation: 1,
        declaredAtMs: 0,
        deleting: false,
        defaultPolicy: { ...DEFAULT_POLICY, mode: 'Plan', locked },
        originOf: () => '',
      },
    );

  it('is that of the operator where he has locked it, and the declared one elsewhere', () => {
    const policy = { mode: 'Apply', drift: 'Warn', allowEmpty: false } as const;
    const workspace = withPolicy(policy, ['mode', 'allowEmpty']);
    expect(workspace.policy).toEqual({ ...DEFAULT_POLICY, mode: 'Plan', drift: 'Warn' });
    expect(workspace.ownPolicy).toEqual(policy);
    expect(overruledPolicy(workspace)).toEqual(["policy.mode is Plan (operator's); the declaration asks for Apply"]);
    expect(withPolicy(policy, []).policy).toMatchObject({ mode: 'Apply', drift: 'Warn' });
  });
});
