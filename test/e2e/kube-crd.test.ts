import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';

import { crdManifest } from '../../src/adapters/kube/crd.ts';
import type { Condition } from '../../src/domain/condition.ts';
import type { PluginName } from '../../src/domain/name.ts';
import type { PluginStatus, WorkspaceStatus } from '../../src/domain/status.ts';
import { checkSchema } from '../../src/domain/schema-problems.ts';
import { parseSourceRef } from '../../src/domain/source.ts';
import { API_VERSION, workspaceSchema } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { anySpec } from '../support/any-spec.ts';
import {
  BAD_WORKSPACES,
  GOOD_WORKSPACES,
  goodWorkspace,
  type ServerVerdict,
  type WorkspaceObject,
} from '../support/bad-workspaces.ts';
import { eventually } from '../support/eventually.ts';
import { kstatus } from '../support/kstatus.ts';
import { Cluster } from '../support/kube/cluster.ts';
import { createNamespace, removeNamespace } from '../support/kube/namespace.ts';
import { installWorkspaceCrd, workspacesIn } from '../support/kube/workspace-crd.ts';

interface Stored {
  readonly metadata: { readonly name: string; readonly generation: number };
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status: Partial<WorkspaceStatus>;
}

interface Definition {
  readonly spec: { readonly versions: readonly object[] };
}

/** What each verdict sounds like; messages of rules are ours. */
const REFUSALS: Readonly<Record<Exclude<ServerVerdict, 'takes' | 'drops'>, RegExp>> = {
  names: /: 422 .*metadata\.name: Invalid value/,
  structure:
    /: 422 .*(?:should match|should be|must be of type|Required value|Unsupported value|Too long|Too many|Duplicate value|less than|greater than|at least)/,
  rule: /: 422 .*(?:must be a list, \[\] for no plugins|must have exactly one of the keys|must name instanceId or tags|must have keys of|must have a name or a selector|has the name of the workspace for a label|metadata\.name: Invalid value: [^]*must be lower-case letters)/,
};

const MERGE_PATCH = 'application/merge-patch+json';
const AT = '2026-01-01T00:00:00.000Z';
const DIGEST = `sha256:${'0a'.repeat(32)}` as const;

function condition(type: Condition['type'], status: Condition['status'], observedGeneration = 1): Condition {
  return { type, status, reason: 'Succeeded', message: 'as it is', observedGeneration, lastTransitionTime: AT };
}

const PLUGIN_ROW = {
  name: 'superpowers' as PluginName,
  state: 'Unknown',
  managed: true,
  source: 'github://obra/superpowers#v4.1.0',
  revision: '0123456789abcdef',
  digest: DIGEST,
  version: '4.1.0',
  reason: 'Unreachable',
  message: 'nobody could look',
  stalled: true,
  seenAt: AT,
  since: AT,
} satisfies Required<PluginStatus>;

/** Every key that a status can have. */
const WHOLE_STATUS = {
  observedGeneration: 1,
  conditions: [condition('Ready', 'True'), condition('Reachable', 'True'), condition('Drifted', 'True')],
  summary: '5/6',
  target: 'container ws-alice on engine default',
  plugins: [PLUGIN_ROW],
  converged: { 'super.powers': DIGEST, other: DIGEST },
  planId: 'p1',
  held: {
    reason: 'PruneHeld',
    message: 'approve it',
    why: 'too many',
    changes: ['remove a', 'remove b'],
    restart: { follows: false, reason: 'NotDurable', message: 'its files would be gone' },
  },
  pruneHeldSince: AT,
  place: 'mark',
  leftBehind: [{ place: 'container ws-old', reason: 'Unreachable', message: 'gone' }],
  history: [{ planId: 'p0', outcome: 'Succeeded', summary: 'installed a', firstAt: AT, lastAt: AT, times: 2 }],
  lastHandledReconcileAt: 'now, please',
  lastHandledApproval: 'p0@1',
  lastHandledTakeover: 'other@1',
  corrective: 3,
  intentional: 4,
} satisfies Required<WorkspaceStatus>;

await withBackend('kubernetes', (address) => {
  let cluster: Cluster;
  let namespace: string;
  let workspaces: string;

  beforeAll(async () => {
    cluster = await Cluster.at(address);
    await installWorkspaceCrd(cluster);
    namespace = await createNamespace(cluster);
    workspaces = workspacesIn(namespace);
  });

  afterAll(() => removeNamespace(cluster, namespace));

  const create = (object: object, query = ''): Promise<Stored> =>
    cluster.call('POST', `${workspaces}${query}`, { body: object });
  const read = (name: string): Promise<Stored> => cluster.call('GET', `${workspaces}/${name}`);
  const merge = (name: string, body: object): Promise<Stored> =>
    cluster.call('PATCH', `${workspaces}/${name}`, { body, contentType: MERGE_PATCH });
  const applyStatus = (name: string, manager: string, status: Partial<WorkspaceStatus>): Promise<Stored> =>
    cluster.call('PATCH', `${workspaces}/${name}/status?fieldManager=${manager}`, {
      body: { apiVersion: API_VERSION, kind: 'Workspace', metadata: { name }, status },
      contentType: 'application/apply-patch+yaml',
    });
  const kubectl = (...args: readonly string[]): Promise<string> => cluster.kubectl(['-n', namespace, ...args]);

  describe('the definition of the custom resource', () => {
    it('is structural, established, and has its names', async () => {
      const { status } = await cluster.call<{
        readonly status: {
          readonly conditions: readonly { readonly type: string; readonly status: string }[];
          readonly storedVersions: readonly string[];
        };
      }>('GET', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/workspaces.plugset.dev');
      const conditions = Object.fromEntries(status.conditions.map((one) => [one.type, one.status]));
      expect(conditions).toEqual({ NamesAccepted: 'True', Established: 'True' });
      expect(status.storedVersions).toEqual(['v1alpha1']);
    });

    it('is documentation', async () => {
      const explain = (place: string): Promise<string> => kubectl('explain', place);
      // The API server writes it down some time after it serves them.
      expect(await eventually(() => explain('pws.spec.policy'))).toMatch(
        /DESCRIPTION:\s+What plugset may do\.[^]*mode[^]*Observe looks/,
      );
      expect(await explain('workspace.spec.target.ec2.tags')).toContain('looked up in every pass');
      expect(await explain('workspace.status.conditions.lastTransitionTime')).toContain('last changed');
      expect(await explain('workspace.metadata.name')).toContain('Name must be unique within a namespace');
    });

    it('can have a newer version beside it, as manifests/kustomize/README.md says, and what is stored stays readable', async () => {
      // Under names of its own, so that nobody who asks for workspaces meanwhile is answered with these.
      const group = `next-${namespace}.plugset.dev`;
      const { spec: definition } = parse(crdManifest()) as Definition;
      const [old] = definition.versions;
      const crd = {
        apiVersion: 'apiextensions.k8s.io/v1',
        kind: 'CustomResourceDefinition',
        metadata: { name: `specimens.${group}` },
        spec: { ...definition, group, names: { kind: 'Specimen', plural: 'specimens' } },
      };
      const crds = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
      const at = (version: string): string => `/apis/${group}/${version}/namespaces/${namespace}/specimens`;
      const call = <T = Stored>(method: string, where: string, body?: object): Promise<T> =>
        cluster.call<T>(method, where, { body, contentType: method === 'PATCH' ? MERGE_PATCH : 'application/json' });

      await call('POST', crds, crd);
      try {
        const object = { ...goodWorkspace('stored'), apiVersion: `${group}/v1alpha1`, kind: 'Specimen' };
        const { spec } = await eventually(() => call('POST', at('v1alpha1'), object));
        const versions = [
          { ...old, storage: false, deprecated: true },
          { ...old, name: 'v1beta1', storage: true },
        ];
        await call('PATCH', `${crds}/${crd.metadata.name}`, { spec: { versions } });
        const newer = await eventually(() => call('GET', `${at('v1beta1')}/stored`));
        expect(newer).toMatchObject({ apiVersion: `${group}/v1beta1`, spec, status: { observedGeneration: -1 } });
        // Written by either name.
        await call('PATCH', `${at('v1alpha1')}/stored`, { spec: { suspend: true } });
        expect(await call('GET', `${at('v1beta1')}/stored`)).toMatchObject({ spec: { ...spec, suspend: true } });
      } finally {
        await call('DELETE', `${crds}/${crd.metadata.name}`);
      }
    });

    it('takes Off for a text only in quotes, as YAML 1.1 does', async () => {
      const text = stringify(goodWorkspace('quoted', { policy: { drift: 'Off' } }), { compat: 'yaml-1.1' });
      expect(text).toContain('drift: "Off"');
      expect(await cluster.kubectl(['-n', namespace, 'apply', '-f', '-'], text)).toContain('created');
      await expect(
        cluster.kubectl(['-n', namespace, 'apply', '-f', '-'], text.replace('"Off"', 'Off')),
      ).rejects.toThrow(/spec\.policy\.drift in body must be of type string/);
    });
  });

  describe('a workspace that is written', () => {
    // Asked not to be strict, as by whoever goes past kubectl: what is unknown is dropped, and the rest is checked.
    const LENIENT = '?dryRun=All&fieldValidation=Ignore';
    const STRICT = '?dryRun=All&fieldValidation=Strict';
    const refused = BAD_WORKSPACES.filter(({ server }) => server !== 'takes' && server !== 'drops');

    it.each(refused)('is refused for $what', async ({ object, server }) => {
      await expect(create(object, LENIENT)).rejects.toThrow(REFUSALS[server as keyof typeof REFUSALS]);
    });

    it.each(BAD_WORKSPACES.filter(({ server }) => server === 'drops'))(
      'is kept without $what, and refused for it where asked to be strict',
      async ({ object }) => {
        const { spec } = await create(object, LENIENT);
        expect(JSON.stringify(spec)).not.toMatch(/colour|sauce|pruning|privileged|cloud|url/);
        await expect(create(object, STRICT)).rejects.toThrow(/: 400 .*unknown field/);
      },
    );

    it.each(BAD_WORKSPACES.filter(({ server }) => server === 'takes'))(
      'is taken with $what: its condition tells',
      async ({ object }) => {
        const { spec } = await create(object, STRICT);
        expect(spec).toMatchObject(object.spec as object);
      },
    );

    it.each(GOOD_WORKSPACES)('is taken as it is: $metadata.name', async (object: WorkspaceObject) => {
      const { spec } = await create(object, STRICT);
      expect(spec).toEqual({ suspend: false, ...(object.spec as object) });
    });
  });

  it('is refused by the API server where the schema that reads files and rows would refuse it, and only there', async () => {
    await fc.assert(
      fc.asyncProperty(anySpec, async (spec) => {
        const object = goodWorkspace('any', spec);
        const { kind } = checkSchema(workspaceSchema, object);
        // Of one plugin it is told apart from the others there; nobody is served by storing it.
        const isReadable = spec.plugins.every(({ source }) => parseSourceRef(source) !== undefined);
        const isTaken = await create(object, '?dryRun=All&fieldValidation=Strict').then(
          () => true,
          () => false,
        );
        expect(isTaken).toBe(kind === 'valid' && isReadable);
      }),
      { numRuns: 300 },
    );
  });

  it('a target may be another one, and not of another kind', async () => {
    await create(goodWorkspace('kind'));
    await merge('kind', { spec: { target: { docker: { container: 'ws-bob' } } } });
    const another = { docker: null, directory: { path: '/srv/agents' } };
    await expect(merge('kind', { spec: { target: another } })).rejects.toThrow(
      /: 422 .*is of another kind than before/,
    );
    expect((await read('kind')).spec).toMatchObject({ target: { docker: { container: 'ws-bob' } } });
  });

  it('shows that nobody has come yet, and has a generation of its declaration alone', async () => {
    const { metadata, status } = await create({ ...goodWorkspace('fresh'), status: { observedGeneration: 1 } });
    expect(status).toEqual({ observedGeneration: -1 });
    expect(metadata.generation).toBe(1);
    // What says nothing is done, as kstatus has it.
    expect(kstatus(1, false, {})).toBe('Current');
    expect(kstatus(1, false, status)).toBe('InProgress');
    await applyStatus('fresh', 'plugset', { observedGeneration: 1 });
    await merge('fresh', { metadata: { annotations: { 'plugset.dev/requestedAt': 'now' } } });
    expect((await read('fresh')).metadata.generation).toBe(1);
    expect((await merge('fresh', { spec: { suspend: true } })).metadata.generation).toBe(2);
  });

  describe('its status', () => {
    it('keeps all that plugset says', async () => {
      await create(goodWorkspace('whole'));
      await applyStatus('whole', 'plugset', WHOLE_STATUS);
      expect((await read('whole')).status).toEqual(WHOLE_STATUS);
    });

    it('is shown in tables, and waited for', async () => {
      await create(goodWorkspace('shown'));
      await applyStatus('shown', 'plugset', WHOLE_STATUS);
      expect(await kubectl('get', 'pws', 'shown')).toMatch(
        /^NAME +READY +REASON +PLUGINS +DRIFT +TARGET +AGE\nshown +True +Succeeded +5\/6 +True +container ws-alice on engine default +\d+s\n$/,
      );
      expect(await kubectl('get', 'workspace', 'shown', '-o', 'wide')).toMatch(
        /AGE +RUNTIME +REACHABLE +STALLED +HELD +ACTIVATION +MESSAGE\n.* claude-code +True +PruneHeld +as it is\n$/,
      );
      expect(await kubectl('get', 'agents', '-o', 'name')).toContain('workspace.plugset.dev/shown\n');
      expect(await kubectl('wait', '--for=condition=Ready', 'pws/shown', '--timeout=60s')).toContain('condition met');
    });

    it('is merged by the names of plugins and the types of conditions', async () => {
      await create(goodWorkspace('merged'));
      const other = { ...PLUGIN_ROW, name: 'other' as PluginName };
      await applyStatus('merged', 'plugset', {
        conditions: [condition('Ready', 'True')],
        plugins: [PLUGIN_ROW, other],
      });
      // Somebody else's is left alone, and nobody has to force anything.
      await applyStatus('merged', 'somebody', { conditions: [condition('Stalled', 'False')] });
      const { status } = await applyStatus('merged', 'plugset', {
        conditions: [condition('Ready', 'False')],
        plugins: [other],
      });
      expect(status.conditions?.map(({ type, status: is }) => `${type}=${is}`)).toEqual([
        'Ready=False',
        'Stalled=False',
      ]);
      expect(status.plugins?.map(({ name }) => name)).toEqual(['other']);
    });

    it('cannot be written with the declaration', async () => {
      await create(goodWorkspace('apart'));
      const { status } = await merge('apart', { status: { summary: '9/9' } });
      expect(status).toEqual({ observedGeneration: -1 });
    });
  });
});
