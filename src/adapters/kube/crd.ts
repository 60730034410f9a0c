import { stringify } from 'yaml';
import { z } from 'zod';

import { NAME_PATTERN, NAME_RULE } from '../../domain/name.ts';
import { workspaceStatusSchema } from '../../domain/status.ts';
import { API_VERSION, LABEL_KEY, LABEL_VALUE_MAX, workspaceSpecSchema } from '../../domain/workspace.ts';
import { structuralSchema, type Extensions, type StructuralSchema } from './crd-schema.ts';

const [GROUP = '', VERSION = ''] = API_VERSION.split('/');

const HEAD = `\
# The custom resource Workspace. Written by \`plugset manifests crd\` from the schema that reads files and rows as well:
# vitest run test/docs -u. What no rule here can say is checked when the object is read, and told in its conditions.
`;

/** The definition of the custom resource, as it is applied to a cluster; YAML. */
export function crdManifest(): string {
  // kubectl reads YAML 1.1, where Off is no text.
  return (
    HEAD +
    stringify(workspaceCrd(), {
      aliasDuplicateObjects: false,
      compat: 'yaml-1.1',
      singleQuote: true,
      lineWidth: 0,
    })
  );
}

function workspaceCrd(): object {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `workspaces.${GROUP}` },
    spec: {
      group: GROUP,
      names: {
        kind: 'Workspace',
        listKind: 'WorkspaceList',
        plural: 'workspaces',
        singular: 'workspace',
        shortNames: ['pws'],
        categories: ['agents'],
      },
      scope: 'Namespaced',
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: COLUMNS,
          schema: { openAPIV3Schema: rootSchema() },
        },
      ],
    },
  };
}

const conditionOf = (type: string, field: string): string => `.status.conditions[?(@.type=="${type}")].${field}`;

/** What a person wants to see at once; after Age what `-o wide` adds. */
const COLUMNS: readonly object[] = [
  column('Ready', conditionOf('Ready', 'status'), 'Whether everything is as declared.'),
  column('Reason', conditionOf('Ready', 'reason'), 'Why, in one word.'),
  column('Plugins', '.status.summary', 'Declared plugins that are installed, of all declared.'),
  column('Drift', conditionOf('Drifted', 'status'), 'True where the target was changed and policy leaves it.'),
  column('Target', '.status.target', 'Where the workspace runs.'),
  { ...column('Age', '.metadata.creationTimestamp', 'Since when it is declared.'), type: 'date' },
  wide('Runtime', '.spec.runtime', 'Agent software in the workspace.'),
  wide('Reachable', conditionOf('Reachable', 'status'), 'Whether the target could be looked at.'),
  wide('Stalled', conditionOf('Stalled', 'reason'), 'What a person has to see to.'),
  wide('Held', '.status.held.reason', 'What holds changes back.'),
  wide('Activation', conditionOf('ActivationPending', 'reason'), 'Why its runtime has not taken the plugins up yet.'),
  wide('Message', conditionOf('Ready', 'message'), 'Why, for people.'),
];

function column(name: string, jsonPath: string, description: string): object {
  return { name, type: 'string', description, jsonPath };
}

function wide(name: string, jsonPath: string, description: string): object {
  return { ...column(name, jsonPath, description), priority: 1 };
}

function rootSchema(): StructuralSchema {
  const { required: _always, ...status } = structuralSchema(
    workspaceStatusSchema
      .unwrap()
      .extend({ fence: turnSchema })
      .describe(workspaceStatusSchema.description ?? ''),
    'status',
    STATUS_EXTENSIONS,
  );
  const spec = structuralSchema(workspaceSpecSchema, 'spec', SPEC_EXTENSIONS);
  return {
    description: 'One running agent environment, and the plugins that should be installed in it.',
    type: 'object',
    required: ['spec'],
    properties: {
      apiVersion: { description: `${API_VERSION}.`, type: 'string' },
      kind: { description: 'Workspace.', type: 'string' },
      // The one thing in it that a definition may speak of, so that a rule can point there.
      metadata: { type: 'object', properties: { name: { type: 'string' } } },
      // A rule asks for the plugins: an apply that empties the list may take it out.
      spec: { ...spec, required: (spec.required ?? []).filter((name) => name !== 'plugins') },
      // Nothing is required in it, so that this default is a valid one: kstatus takes an object without any for done.
      status: { ...status, default: { observedGeneration: -1 } },
    },
    'x-kubernetes-validations': [
      {
        rule: `self.metadata.name.matches(r'${NAME_PATTERN.source}')`,
        message: `must be ${NAME_RULE}`,
        fieldPath: '.metadata.name',
      },
      {
        rule: `!has(self.spec.target.pod) || has(self.spec.target.pod.name) || has(self.spec.target.pod.selector) || size(self.metadata.name) <= ${LABEL_VALUE_MAX}`,
        message: `has the name of the workspace for a label, which can hold ${LABEL_VALUE_MAX} characters: give a longer one a name or a selector of its pod`,
        fieldPath: '.spec.target.pod',
      },
    ],
  };
}

const TARGET_KINDS = workspaceSpecSchema.shape.target.options.flatMap((option) => Object.keys(option.shape));

/*
 * What the structure cannot say. Not among it: the size of free-form parts (64 KiB), whether a source, a place or a runtime
 * is one that the operator knows and allows. Nor any default of a policy, an engine or a port: they are the operator's to
 * set, for all who have not said otherwise, and a default of the API server stands in every object as if it had been said.
 */
const SPEC_EXTENSIONS: Extensions = {
  spec: {
    'x-kubernetes-validations': [
      {
        // Server-side apply makes no list at all of one that it empties, and only then an empty one: a list that is there may
        // go, and plugset tells of it, where a refusal would keep the last plugin for ever.
        rule: 'has(self.plugins) || oldSelf.hasValue()',
        optionalOldSelf: true,
        message: 'must be a list, [] for no plugins',
        reason: 'FieldValueRequired',
        fieldPath: '.plugins',
      },
    ],
  },
  'spec.plugins': { 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name'] },
  'spec.suspend': { default: false },
  'spec.target': {
    'x-kubernetes-validations': [
      {
        rule: `[${TARGET_KINDS.map((kind) => `has(self.${kind})`).join(', ')}].exists_one(isNamed, isNamed)`,
        message: `must have exactly one of the keys ${TARGET_KINDS.join(', ')}`,
      },
      {
        rule: TARGET_KINDS.map((kind) => `has(self.${kind}) == has(oldSelf.${kind})`).join(' && '),
        message: 'is of another kind than before, and that is another workspace: give it a name of its own',
      },
    ],
  },
  'spec.target.ec2': {
    'x-kubernetes-validations': [
      { rule: '!(has(self.instanceId) && has(self.tags))', message: 'must name instanceId or tags, not both' },
    ],
  },
  'spec.target.ec2.tags': {
    'x-kubernetes-validations': [
      { rule: 'self.all(key, size(key) >= 1 && size(key) <= 128)', message: 'must have keys of 1 to 128 characters' },
    ],
  },
  'spec.target.pod': {
    'x-kubernetes-validations': [
      { rule: '!(has(self.name) && has(self.selector))', message: 'must have a name or a selector, not both' },
    ],
  },
  'spec.target.pod.selector': {
    'x-kubernetes-validations': [
      { rule: `self.all(key, key.matches(r'${LABEL_KEY.source}'))`, message: 'must have keys of labels' },
    ],
  },
};

const turnSchema = z
  .object({ epoch: z.int().describe('Life of the lease.'), n: z.int().describe('Turn within it.') })
  .describe('Turn of the controller that has written this; an older one may not.');

/** Lists with a key are merged by it, so that a second writer of a status touches what is his and no more. */
const STATUS_EXTENSIONS: Extensions = {
  'status.conditions': { 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['type'] },
  'status.plugins': { 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name'] },
  'status.held.changes': { 'x-kubernetes-list-type': 'atomic' },
  'status.leftBehind': { 'x-kubernetes-list-type': 'atomic' },
  'status.history': { 'x-kubernetes-list-type': 'atomic' },
};
