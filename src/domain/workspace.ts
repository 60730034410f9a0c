import { z } from 'zod';

import { definedOnly } from './defined-only.ts';
import { DIGEST_PATTERN, type Digest } from './digest.ts';
import { NAME_PATTERN, NAME_RULE, workspaceKey, type PluginName, type WorkspaceKey } from './name.ts';
import type { Reason } from './reason.ts';
import { SOURCE_GRAMMAR } from './source.ts';

/*
 * The one schema behind YAML files, database rows and the custom resource, whose definition is made of it
 * (adapters/kube/crd.ts): descriptions are documentation (`kubectl explain`), regular expressions stay within RE2, and nothing
 * transforms. `meta` says in words of JSON Schema what a refinement or a pattern says already, so that an API server refuses
 * it at once.
 *
 * zod is the one package that the domain imports: a second, hand-written description of these types would drift from it.
 */

export const API_VERSION = 'plugset.dev/v1alpha1';

/** Wakes a workspace and is echoed in `status.lastHandledReconcileAt`. Any text; a timestamp by habit. */
export const REQUESTED_AT_ANNOTATION = 'plugset.dev/requestedAt';

/** Has a runtime restarted once for each new value, whatever its policy and budgets say. Any text; a timestamp by habit. */
export const RESTART_REQUESTED_AT_ANNOTATION = 'plugset.dev/restartRequestedAt';

/** Text of a grammar that says itself how long it may be. */
function patterned(pattern: RegExp, maxLength: number, rule: string): z.ZodString {
  return z.string().regex(pattern, `must be ${rule}`).meta({ maxLength });
}

const nameSchema = patterned(NAME_PATTERN, 128, NAME_RULE);

const SMALL_BYTES = 64 * 1024;

/** Free-form parts are read in every pass, so they are not for payloads. */
function small<T extends z.ZodType>(schema: T): T {
  const isSmall = (value: unknown): boolean => Buffer.byteLength(JSON.stringify(value)) <= SMALL_BYTES;
  return schema.refine(isSmall, 'must be at most 64 KiB as JSON');
}

const pluginSchema = z
  .strictObject({
    name: nameSchema.describe('Directory under plugins/ that the plugin is installed as; its identity.'),
    source: z
      .string()
      .min(1)
      .max(2048)
      .meta({ pattern: SOURCE_GRAMMAR })
      .describe('Where it comes from: scheme://spec, or a bare name for the local registry.'),
    digest: (patterned(DIGEST_PATTERN, 71, 'sha256: and 64 hex digits') as unknown as z.ZodType<Digest>)
      .describe('Tree digest that was reviewed; other content is refused as DigestMismatch.')
      .optional(),
    config: small(z.record(z.string(), z.unknown()))
      .describe(
        'Settings of the plugin, delivered as plugin-settings/NAME.json in configDir. Instead of a value a secret can be referred ' +
          'to: {$ref: secret:NAME/KEY}, a Secret of the same namespace; or file:/PATH, env:NAME of the controller, if the operator allows it.',
      )
      .optional(),
  })
  .describe('One plugin.');

const INSTANCE_ID = /^i-[0-9a-f]{8,17}$/;

/** A name of DNS, or an IPv4 or IPv6 address: what is no name could be an option, or two hosts. */
const hostSchema = z
  .string()
  .max(253)
  .regex(
    /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|[0-9a-f:]*:[0-9a-f:.]*)$/,
    'must be a host name in lower case, or an address',
  )
  // Keys of hosts and of instances are pinned side by side, by these names.
  .refine((host) => !INSTANCE_ID.test(host), 'is the id of an instance: name it in full, or under target.ec2');

export const userNameSchema = patterned(/^[a-zA-Z_][a-zA-Z0-9_.-]{0,31}$/, 32, 'a user name');
export const instanceIdSchema = patterned(INSTANCE_ID, 19, 'the id of an instance');
export const regionSchema = z
  .string()
  .max(64)
  .regex(/^[a-z]{2}(?:-[a-z0-9]+)+$/, 'must be a region of AWS');

/** What a label of Kubernetes can hold. */
export const LABEL_VALUE_MAX = 63;

const LABEL_VALUE = /^(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?)?$/;
const labelValueSchema = z.string().max(LABEL_VALUE_MAX).regex(LABEL_VALUE, 'must be what a label can hold');
export const LABEL_KEY =
  /^(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;

const MAX_POD_LABELS = 20;

/** The label by which a pod is found for whom the declaration names none. */
export const WORKSPACE_LABEL = 'plugset.dev/workspace';

export function isLabelValue(text: string): boolean {
  return labelValueSchema.safeParse(text).success;
}

/** No resource of AWS has more. */
const MAX_TAGS = 50;

const hasFrom1To = (entries: object, most: number): boolean => {
  const count = Object.keys(entries).length;
  return count > 0 && count <= most;
};

const targetSchema = z
  .union([
    z.strictObject({
      docker: z
        .strictObject({
          container: patterned(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/, 255, 'a container name')
            .describe(
              'Container name. Default: the container labelled for this workspace, else ws-<first 12 of spec.id>.',
            )
            .optional(),
          engine: nameSchema.describe('Name of a configured engine. Default: default.').optional(),
        })
        .describe('A container.'),
    }),
    z.strictObject({
      directory: z
        .strictObject({
          path: z
            .string()
            .max(4096)
            .regex(/^\/[^\0\n\r]*$/, 'must be an absolute path')
            .describe('Directory on the machine of the controller, inside a configured root.'),
        })
        .describe('A directory on the machine of the controller.'),
    }),
    z.strictObject({
      ssh: z
        .strictObject({
          host: hostSchema.describe('Name or address of a host that the operator has allowed (targets.ssh).'),
          port: z.int().min(1).max(65_535).describe('Where its SSH server listens. Default: 22.').optional(),
          user: userNameSchema.describe('Who logs in. Default: whom the operator has named for this host.').optional(),
        })
        .describe('A host that is logged in to.'),
    }),
    z.strictObject({
      ec2: z
        .strictObject({
          instanceId: instanceIdSchema
            .describe('Id of the instance. Default: the one that is tagged for this workspace.')
            .optional(),
          tags: z
            .record(z.string().min(1).max(128), z.string().max(256))
            .refine((tags) => hasFrom1To(tags, MAX_TAGS), `name 1 to ${MAX_TAGS} tags`)
            .meta({ minProperties: 1, maxProperties: MAX_TAGS })
            .describe('Tags that only its instance has; looked up in every pass, so that it may be replaced.')
            .optional(),
          region: regionSchema.describe('One that the operator has allowed. Default: the first of them.').optional(),
        })
        .refine(({ instanceId, tags }) => instanceId === undefined || tags === undefined, 'name instanceId or tags')
        .describe('An EC2 instance.'),
    }),
    z.strictObject({
      pod: z
        .strictObject({
          name: z
            .string()
            .max(253)
            .regex(/^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/, 'must be the name of a pod')
            .describe('Name of the pod, in the namespace of the workspace.')
            .optional(),
          selector: z
            .record(z.string().min(1).max(317).regex(LABEL_KEY, 'must be the key of a label'), labelValueSchema)
            .refine((labels) => hasFrom1To(labels, MAX_POD_LABELS), `name 1 to ${MAX_POD_LABELS} labels`)
            .meta({ minProperties: 1, maxProperties: MAX_POD_LABELS })
            .describe(
              'Labels that only its pod has, in the namespace of the workspace; looked up in every pass, so that it may be ' +
                'replaced. Default: plugset.dev/workspace with the name of the workspace, of at most 63 characters then.',
            )
            .optional(),
          container: patterned(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, 63, 'the name of a container')
            .describe(
              'Container of the pod. Default: the one that kubectl.kubernetes.io/default-container names, else the only one.',
            )
            .optional(),
        })
        .refine(({ name, selector }) => name === undefined || selector === undefined, 'name a pod or a selector')
        .describe('A container of a pod of the same namespace.'),
    }),
    z.strictObject({
      external: z
        .strictObject({})
        .describe('A machine that fetches for itself: what is declared is recorded, and never looked at.'),
    }),
  ])
  .describe('Where the workspace runs: exactly one of docker, directory, ssh, ec2, pod, external.');

export const policySchema = z
  .strictObject({
    mode: z
      .enum(['Observe', 'Plan', 'Apply'])
      .describe(
        'Observe looks and reports; Plan also waits until that very plan is approved; Apply converges. Default: Apply.',
      ),
    drift: z.enum(['Off', 'Warn', 'Enforce']).describe('What happens to edits on the target. Default: Enforce.'),
    prune: z
      .enum(['Off', 'Managed', 'All'])
      .describe('What is removed when not declared: nothing, what plugset installed, or everything. Default: Managed.'),
    adopt: z
      .enum(['Equal', 'Replace'])
      .describe(
        'A foreign directory of a declared name is adopted when its content is equal; Replace also puts the declared ' +
          'one in its place and keeps its files in .plugset/kept/. Default: Equal.',
      ),
    allowEmpty: z
      .boolean()
      .describe('true: the caps on removing many plugins at once do not hold for this workspace. Default: false.'),
    restart: z
      .enum(['IfNeeded', 'Never'])
      .describe('Whether a container is restarted so that its runtime takes changes up. Default: IfNeeded.'),
    deletion: z
      .enum(['Remove', 'Orphan'])
      .describe(
        'What happens to installed plugins when the workspace is deleted. Default: Remove; in files and in tables of a platform: Orphan.',
      ),
  })
  .partial()
  .describe('What plugset may do.');

export const workspaceSpecSchema = z
  .strictObject({
    id: patterned(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/, 128, 'letters, digits, dot, underscore, hyphen')
      .describe('Id of the workspace on its platform. Default: metadata.name.')
      .optional(),
    runtime: z
      .string()
      .min(1)
      .max(128)
      .describe('Agent software in the workspace; names a profile. - and _ are equal.'),
    target: targetSchema,
    plugins: z
      .array(pluginSchema)
      .max(1000)
      .superRefine((plugins, context) => {
        const seen = new Set<string>();
        for (const [index, plugin] of plugins.entries()) {
          if (seen.has(plugin.name)) {
            context.addIssue({
              code: 'custom',
              path: [index, 'name'],
              message: `plugin ${plugin.name} is declared twice`,
            });
          }
          seen.add(plugin.name);
        }
      })
      .describe('What should be installed; a map list with the key name.'),
    policy: policySchema.optional(),
    suspend: z.boolean().describe('true: nothing is looked at or changed.').optional(),
  })
  .describe('What should be.');

export const workspaceSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Workspace'),
  metadata: z.strictObject({
    name: nameSchema,
    namespace: nameSchema.optional(),
    labels: small(z.record(z.string(), z.string())).optional(),
    annotations: small(z.record(z.string(), z.string())).optional(),
  }),
  spec: workspaceSpecSchema,
});

/**
 * The plan that a person agrees to: its id, and, to agree to an equal one a second time, `@` and any text after it. Each
 * value is good for one time, and is echoed in `status.lastHandledApproval`.
 */
export const APPROVED_PLAN_ANNOTATION = 'plugset.dev/approved-plan';

/** Annotations with which people ask for something, past the declaration: none raises the generation. */
export const REQUEST_ANNOTATIONS = [
  REQUESTED_AT_ANNOTATION,
  RESTART_REQUESTED_AT_ANNOTATION,
  APPROVED_PLAN_ANNOTATION,
] as const;

export type Requests = Readonly<Partial<Record<(typeof REQUEST_ANNOTATIONS)[number], string>>>;

/** What a person writes, validated. */
export type WorkspaceManifest = z.infer<typeof workspaceSchema>;
export type WorkspaceSpec = z.infer<typeof workspaceSpecSchema>;
export type TargetSpec = WorkspaceSpec['target'];
export type TargetKind = 'docker' | 'directory' | 'ssh' | 'ec2' | 'pod' | 'external';

export interface Policy {
  readonly mode: 'Observe' | 'Plan' | 'Apply';
  readonly drift: 'Off' | 'Warn' | 'Enforce';
  readonly prune: 'Off' | 'Managed' | 'All';
  readonly adopt: 'Equal' | 'Replace';
  readonly allowEmpty: boolean;
  readonly restart: 'IfNeeded' | 'Never';
  readonly deletion: 'Remove' | 'Orphan';
}

export const DEFAULT_POLICY: Policy = {
  mode: 'Apply',
  drift: 'Enforce',
  prune: 'Managed',
  adopt: 'Equal',
  allowEmpty: false,
  restart: 'IfNeeded',
  deletion: 'Remove',
};

/** A bad checkout or query must not wipe machines, so here a declaration that vanishes leaves its target as it is. */
export const FILES_DEFAULT_POLICY: Policy = { ...DEFAULT_POLICY, deletion: 'Orphan' };

/**
 * Keys of the policy that the operator can keep to himself. Not `deletion`: a store may have to leave a target as it is
 * (a workspace that only got another name), and that concerns nobody but whoever declared it.
 */
export const LOCKABLE_POLICY = ['mode', 'drift', 'prune', 'adopt', 'allowEmpty', 'restart'] as const;

export type LockablePolicy = (typeof LOCKABLE_POLICY)[number];

/** What the operator says for the whole fleet. */
export interface FleetPolicy extends Policy {
  /** For these it holds whatever a declaration says; for the others it is the default. */
  readonly locked?: readonly LockablePolicy[];
}

export interface DeclaredPlugin {
  readonly name: PluginName;
  readonly source: string;
  readonly digest?: Digest | undefined;
  readonly config?: Readonly<Record<string, unknown>> | undefined;
  /** Where the entry was written, for people: `alice.yaml:14`, `row plugset.plugins (team-a, alice, superpowers)`. */
  readonly origin: string;
}

/** A workspace as a store hands it out: complete, defaults applied, ready to reconcile. */
export interface Workspace {
  readonly key: WorkspaceKey;
  /** The platform's id; the name where none is given. */
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Rises with every change of the spec, never with a status or an annotation. From 1. */
  readonly generation: number;
  /**
   * When this generation was written or taken out, Unix milliseconds; start of the time from declared to converged. Of one
   * that is being deleted always when it was taken out, whatever was written since: its deletion is given up by it.
   */
  readonly declaredAtMs: number;
  readonly runtime: string;
  readonly target: TargetSpec;
  readonly plugins: readonly DeclaredPlugin[];
  readonly policy: Policy;
  /** The part of `policy` that the declaration says itself; the rest are defaults, which may change. */
  readonly ownPolicy: Partial<Policy>;
  /** Keys of `policy` that only the operator can set. */
  readonly lockedPolicy: readonly LockablePolicy[];
  readonly suspend: boolean;
  /** The declaration is gone and the target has still to be cleaned, as `policy.deletion` says. */
  readonly deleting: boolean;
}

export interface StoreFacts {
  readonly generation: number;
  readonly declaredAtMs: number;
  readonly deleting: boolean;
  /** Operator's defaults under the policy of the workspace itself, and what of them no declaration can change. */
  readonly defaultPolicy: FleetPolicy;
  /** Says where plugin number `index` of the spec was written. */
  readonly originOf: (index: number, name: string) => string;
}

/** Turns what a person wrote into what the reconciler reads. */
export function workspaceFrom(manifest: WorkspaceManifest, facts: StoreFacts): Workspace {
  const { metadata, spec } = manifest;
  const { locked = [], ...defaults } = facts.defaultPolicy;
  const ownPolicy: Partial<Policy> = definedOnly(spec.policy ?? {});
  return {
    key: workspaceKey(metadata.namespace ?? 'default', metadata.name),
    id: spec.id ?? metadata.name,
    labels: metadata.labels ?? {},
    annotations: metadata.annotations ?? {},
    generation: facts.generation,
    declaredAtMs: facts.declaredAtMs,
    runtime: spec.runtime,
    target: spec.target,
    plugins: spec.plugins.map((plugin, index) => ({
      ...plugin,
      name: plugin.name as PluginName,
      origin: facts.originOf(index, plugin.name),
    })),
    policy: { ...defaults, ...ownPolicy, ...pick(defaults, locked) },
    ownPolicy,
    lockedPolicy: locked,
    suspend: spec.suspend ?? false,
    deleting: facts.deleting,
  };
}

function pick(policy: Policy, keys: readonly LockablePolicy[]): Partial<Policy> {
  return Object.fromEntries(keys.map((key) => [key, policy[key]]));
}

/** What a declaration asks of its policy and does not get, because the operator has locked it; a text for each key. */
export function overruledPolicy({
  ownPolicy,
  policy,
  lockedPolicy,
}: Pick<Workspace, 'ownPolicy' | 'policy' | 'lockedPolicy'>): readonly string[] {
  return lockedPolicy
    .filter((key) => ownPolicy[key] !== undefined && ownPolicy[key] !== policy[key])
    .map(
      (key) =>
        `policy.${key} is ${String(policy[key])} (operator's); the declaration asks for ${String(ownPolicy[key])}`,
    );
}

/** Where the operator has locked what an approval lifts, whoever writes the declaration could approve himself. */
export function mayApproveItself({ lockedPolicy }: Pick<Workspace, 'lockedPolicy'>): boolean {
  return !lockedPolicy.includes('mode') && !lockedPolicy.includes('allowEmpty');
}

/** What to tell whoever approved in the declaration, where that does not count and a plan waits; else nothing. */
export function uncountedApproval(
  workspace: Pick<Workspace, 'annotations' | 'key' | 'lockedPolicy'>,
  reason: Reason | undefined,
  planId: string | undefined,
): readonly string[] {
  const isAsked = workspace.annotations[APPROVED_PLAN_ANNOTATION] !== undefined;
  const isWaiting = reason === 'AwaitingApproval' || reason === 'PruneHeld';
  if (!isAsked || !isWaiting || planId === undefined || mayApproveItself(workspace)) return [];
  return [
    `approvals by annotation (${APPROVED_PLAN_ANNOTATION}) do not count here; ask the operator for: plugset approve ${workspace.key} ${planId}`,
  ];
}

export function targetKind(target: TargetSpec): TargetKind {
  if ('docker' in target) return 'docker';
  if ('directory' in target) return 'directory';
  if ('ssh' in target) return 'ssh';
  if ('ec2' in target) return 'ec2';
  if ('pod' in target) return 'pod';
  return 'external';
}
