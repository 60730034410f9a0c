import { z } from 'zod';

import { DEFAULT_ACTIVATION } from '../domain/activation.ts';
import { DEFAULT_FLEET_RESTARTS } from '../domain/restart-budget.ts';
import { DEFAULT_GUARDS } from '../domain/gate.ts';
import { NAME_PATTERN, NAME_RULE } from '../domain/name.ts';
import { runtimeProfileSchema } from '../domain/profile.ts';
import { STANDINGS } from '../domain/transition.ts';
import {
  API_VERSION,
  instanceIdSchema,
  LOCKABLE_POLICY,
  policySchema,
  regionSchema,
  userNameSchema,
} from '../domain/workspace.ts';

/*
 * The one schema behind the configuration file, the flags and the variables. It holds values as people write them
 * (`30s`), so that `plugset config` can print back what would be read again; `config.ts` turns them into what runs.
 */

const nameSchema = z.string().regex(NAME_PATTERN, `must be ${NAME_RULE}`);
const pathSchema = z.string().min(1, 'must be a path').max(4096);
const urlSchema = z.string().regex(/^https?:\/\/[^\s@]+$/, 'must be an http or https URL without a user or password');

/** A duration as people write it: `500ms`, `30s`, `10m`, `1h`. */
function durationSchema(leastMs = 0, mostMs = Infinity): z.ZodType<string> {
  const isInRange = (value: unknown): boolean => {
    const ms = typeof value === 'string' ? durationMs(value) : undefined;
    return ms !== undefined && ms >= leastMs && ms <= mostMs;
  };
  const least = leastMs === 0 ? '' : ` of ${leastMs} ms or more`;
  const most = mostMs === Infinity ? '' : ` and of ${mostMs} ms or less`;
  return z.custom<string>(isInRange, `must be a duration such as 500ms, 30s, 10m or 1h${least}${most}`);
}

const UNITS_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;

/** Milliseconds of a {@link durationSchema duration}; `undefined` for text that is none. */
export function durationMs(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  return match === null ? undefined : Number(match[1]) * UNITS_MS[match[2] as keyof typeof UNITS_MS];
}

const countSchema = (least: number, most = Infinity): z.ZodType<number> =>
  z.custom<number>(
    (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
    most === Infinity
      ? `must be a whole number of ${least} or more`
      : `must be a whole number from ${least} to ${most}`,
  );

const namespacesSchema = z
  .array(z.string().regex(new RegExp(String.raw`^\*$|${NAME_PATTERN.source}`), `must be ${NAME_RULE}; or * for all`))
  .min(1, 'name at least one namespace, or * for all of them')
  .describe('Namespaces whose workspaces may use it, * for all. Left out: all, and with store.kubernetes none.');

const WORKSPACE_PATTERN = /^[a-z0-9][a-z0-9._-]{0,127}\/[a-z0-9][a-z0-9._-]{0,127}$/;

const sqlSchema = z.string().regex(/\S/, 'must be a query').max(65_536);

const querySchema = z
  .strictObject({
    workspaces: sqlSchema.describe(
      'Selects a row for each workspace: name and runtime; where it runs, as target, docker_container (and docker_engine), ' +
        'directory_path or ec2_instance_id (and ec2_region); if you like id, namespace, labels, annotations, policy, suspend.',
    ),
    plugins: sqlSchema.describe(
      'Selects a row for each of their plugins: workspace_id, or workspace (its name) and namespace; name and source; if ' +
        'you like digest, config, position.',
    ),
    interval: durationSchema(1000).default('10s').describe('Between two reads.'),
    channel: z
      .string()
      .regex(/^[a-z_][a-z0-9_]{0,62}$/, 'must be lower-case letters, digits and underscores')
      .refine((name) => name !== 'plugset', 'must not be plugset, on which plugset notifies itself')
      .describe('Channel on which the platform notifies (NOTIFY) that it has changed something: reads at once.')
      .optional(),
    allowEmpty: z
      .boolean()
      .default(false)
      .describe('true: no workspace at all, or no plugin at all, is believed even where several had some before.'),
  })
  .describe("Read workspaces from a platform's own tables, and never write there.");

const kubeNamespaceSchema = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'must be the name of a Kubernetes namespace');

/** How the cluster is reached; shared by the store and by the pods that are targets. */
const kubernetesSchema = z
  .strictObject({
    kubeconfig: pathSchema
      .describe('Left out: the account of the pod that plugset runs in, else $KUBECONFIG, else ~/.kube/config.')
      .optional(),
    context: z.string().min(1).max(253).describe('Context of the kubeconfig. Left out: the current one.').optional(),
  })
  .prefault({})
  .describe('How the Kubernetes cluster is reached, for store.kubernetes and for targets that are pods.');

const storeSchema = z
  .strictObject({
    files: pathSchema.describe('Declare workspaces as YAML files below this directory.').optional(),
    postgres: z
      .strictObject({
        url: z
          .string()
          .regex(/^postgres(?:ql)?:\/\//, 'must begin with postgres://')
          .describe('Connection URL. A password in it is masked wherever settings are shown.')
          .optional(),
        urlFile: pathSchema.describe('File that holds the URL, such as a mounted secret.').optional(),
        query: querySchema.optional(),
      })
      .describe('Declare workspaces in this Postgres.')
      .optional(),
    kubernetes: z
      .strictObject({
        namespaces: z
          .array(kubeNamespaceSchema)
          .min(1, 'name at least one namespace, or leave the key out for the whole cluster')
          .describe('Namespaces whose workspaces are read. Left out: the whole cluster.')
          .optional(),
        stateNamespace: kubeNamespaceSchema
          .describe(
            'Where the Lease and the ConfigMaps of plugset lie. Left out: its own namespace, else that of the context.',
          )
          .optional(),
      })
      .describe('Declare workspaces as custom resources (`plugset manifests crd`).')
      .optional(),
    stateDirectory: pathSchema
      .describe('What plugset remembers of the files. Left out: one per directory below ~/.local/state/plugset.')
      .optional(),
    allowEmpty: z
      .boolean()
      .default(false)
      .describe('true: a directory of files without any workspace is believed even where there were several before.'),
    authority: nameSchema
      .describe('Id of this controller on its targets. Left out: made once, kept in the store.')
      .optional(),
    lease: durationSchema(1000)
      .describe('How long a lost leader keeps others waiting. Left out: 15s, on Kubernetes 35s.')
      .optional(),
  })
  .prefault({})
  .describe('Where workspaces are declared: files, postgres or kubernetes.');

const allowedHostsSchema = z.strictObject({
  hosts: z
    .array(
      z.string().regex(/^[a-z0-9*.:-]{1,253}$/, 'must be a host name in lower case or an address, with * for any part'),
    )
    .min(1, 'name at least one host')
    .describe('Names or addresses, with * for any part: agents.example.com, *.agents.example.com, 10.0.0.*'),
  for: z
    .enum(['workspaces', 'engines'])
    .default('workspaces')
    .describe('Who may name them: workspaces, or only Docker engines below targets.docker (ssh://host).'),
  namespaces: namespacesSchema.optional(),
  user: z.string().min(1).max(32).describe('Who logs in. Left out: whom the workspace names.').optional(),
  port: z.int().min(1).max(65_535).describe('Left out: what the workspace names, else 22.').optional(),
  keyFile: pathSchema
    .describe('Private key, OpenSSH or PEM, without a passphrase. Read anew for every connection.')
    .optional(),
  agent: pathSchema.describe('Socket of an SSH agent that holds the key, in the place of keyFile.').optional(),
  knownHostsFile: pathSchema
    .describe('Keys of the hosts, as OpenSSH keeps them. They go above what is pinned.')
    .optional(),
  firstContact: z
    .enum(['strict', 'tofu'])
    .default('strict')
    .describe('A host that no known hosts file has is refused (strict), or its key is believed from then on (tofu).'),
});

const ec2Schema = z
  .strictObject({
    regions: z
      .array(
        z.strictObject({
          name: regionSchema.describe('us-east-2'),
          endpoint: z
            .string()
            .regex(/^eice-[0-9a-f]{8,17}$/, 'must be the id of an Instance Connect endpoint')
            .describe('Endpoint to go through. Left out: that of the subnet of the instance, else one of its VPC.')
            .optional(),
          namespaces: namespacesSchema.optional(),
          tags: z
            .record(z.string().min(1).max(128), z.string().max(256))
            .describe('Tags that their instances must have, all of them. Left out: any that is proven to be theirs.')
            .optional(),
        }),
      )
      .default([])
      .describe(
        'Regions in which workspaces may be; the first that is for a workspace is meant where that names none. One region ' +
          'can have several entries.',
      ),
    user: userNameSchema.default('ubuntu').describe('Who logs in on the instances.'),
    tag: z
      .string()
      .min(1)
      .max(128)
      .default('plugset.dev/workspace')
      .describe('Tag of instances that says whose they are: namespace/name, or the id of the workspace.'),
    trustIds: z
      .boolean()
      .describe(
        'false: only a tag with namespace/name proves anything, or an entry below instances. Left out: true, and with ' +
          'store.kubernetes false.',
      )
      .optional(),
    instances: z
      .array(
        z.strictObject({
          workspace: z.string().regex(WORKSPACE_PATTERN, 'must be namespace/name').describe('namespace/name.'),
          instanceId: instanceIdSchema.describe('Its instance.'),
        }),
      )
      .default([])
      .describe('Instances that belong to a workspace on the word of the operator, whatever they are tagged.'),
    hostKeys: z
      .enum(['strict', 'console', 'tofu'])
      .default('console')
      .describe(
        'On first contact: console believes the key that the EC2 console shows, and where that shows none five minutes after ' +
          'the launch, the first that comes, as not verified; strict never does that; tofu asks no console.',
      ),
    tunnelsPerEndpoint: countSchema(1, 20)
      .default(16)
      .describe('Tunnels through one Instance Connect endpoint at a time. AWS allows 20, and people need some too.'),
    maxTunnel: durationSchema(10_000, 3_600_000)
      .describe(
        'How long a tunnel may live, where IAM demands less than an hour (ec2-instance-connect:maxTunnelDuration).',
      )
      .optional(),
    fips: z.boolean().default(false).describe('Ask AWS at its FIPS endpoints.'),
  })
  .prefault({})
  .describe('EC2 instances, reached through EC2 Instance Connect. Credentials: those that the AWS SDK finds.');

/** Which of them was meant would hang on the order of the entries. */
function refuseTwoAddresses(
  engines: readonly { readonly name: string; readonly address: string }[],
  context: z.RefinementCtx,
): void {
  for (const [index, { name, address }] of engines.entries()) {
    const first = engines.find((engine) => engine.name === name);
    if (first === undefined || first.address === address) continue;
    const message = `engine ${name} is at another address in the entry before; give one of them another name`;
    context.addIssue({ code: 'custom', path: [index, 'address'], message });
  }
}

const targetsSchema = z
  .strictObject({
    docker: z
      .strictObject({
        engines: z
          .array(
            z.strictObject({
              name: nameSchema.default('default').describe('What `target.docker.engine` says.'),
              address: z
                .string()
                .regex(
                  /^(?:unix:\/\/\/.+|tcp:\/\/(?:\[[0-9a-f:]+\]|[^/:]+):\d+\/?|ssh:\/\/(?:[^\s@/:]+@)?(?:\[[0-9a-f:]+\]|[^\s@/:]+)(?::\d+)?(?:\/[^\s?#]*)?)$/i,
                  'must be unix:///path, tcp://host:port or ssh://[user@]host[:port][/path/to/socket]',
                )
                .describe(
                  'unix:///path, tcp://host:port, or ssh://[user@]host[:port][/path/to/socket], with the key of a host below ' +
                    'targets.ssh that is for engines.',
                ),
              namespaces: namespacesSchema.optional(),
              containers: z
                .array(
                  z.string().regex(/^[a-zA-Z0-9_.*-]{1,255}$/, 'must be the name of a container, with * for any part'),
                )
                .min(1, 'name at least one container, or leave the key out')
                .describe(
                  'Names of the containers that they may be, with * for any part. Left out: any that is proven to be theirs.',
                )
                .optional(),
            }),
          )
          .superRefine(refuseTwoAddresses)
          .default([{ name: 'default', address: 'unix:///var/run/docker.sock' }])
          .describe('Docker engines that workspaces may name. One engine can have several entries.'),
        label: z
          .string()
          .regex(/^[a-z0-9][a-z0-9./_-]{0,200}$/, 'must be a label key')
          .default('plugset.dev/workspace')
          .describe('Label of containers that says whose they are: namespace/name, or the id of the workspace.'),
        namePrefix: z
          .string()
          .regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}$/, 'must be the beginning of a container name')
          .default('ws-')
          .describe('A container without the label is found as this and the first 12 characters of spec.id.'),
        trustIds: z
          .boolean()
          .describe(
            'false: spec.id, which whoever declares a workspace may choose, proves nothing: only a label with ' +
              'namespace/name does, or an entry below containers. Left out: true, and with store.kubernetes false.',
          )
          .optional(),
        containers: z
          .array(
            z.strictObject({
              workspace: z.string().regex(WORKSPACE_PATTERN, 'must be namespace/name').describe('namespace/name.'),
              container: z.string().min(1).describe('Name of its container.'),
              engine: nameSchema.default('default'),
            }),
          )
          .default([])
          .describe('Containers that belong to a workspace on the word of the operator, whatever they are labelled.'),
      })
      .prefault({}),
    directory: z
      .strictObject({
        roots: z
          .array(z.strictObject({ path: pathSchema, namespaces: namespacesSchema.optional() }))
          .default([])
          .describe('Directory targets are allowed below these.'),
      })
      .prefault({}),
    pod: z
      .strictObject({
        namespaces: namespacesSchema
          .describe(
            'Namespaces whose workspaces may be pods, each of its own namespace; * for all. Left out: none, and with ' +
              'store.kubernetes all, since the rights of plugset in the cluster decide there.',
          )
          .optional(),
      })
      .prefault({}),
    ssh: z
      .array(allowedHostsSchema)
      .default([])
      .describe('Hosts that workspaces or engines may name; the first entry that has one counts.'),
    ec2: ec2Schema,
  })
  .prefault({})
  .describe('What workspaces may point at.');

const credentialFileSchema = z.union(
  [pathSchema, z.strictObject({ file: pathSchema, namespaces: namespacesSchema.optional() })],
  'must be a path, or {file: PATH, namespaces: [NAMESPACE]}',
);

const sourcesSchema = z
  .strictObject({
    registries: z.array(pathSchema).default([]).describe('Directories of local plugins (local://name), in order.'),
    gitRoots: z.array(pathSchema).default([]).describe('git+file repositories are allowed below these.'),
    githubUrl: urlSchema.default('https://github.com').describe('Base of github:// sources.'),
    giteaUrl: urlSchema.describe('Base of gitea:// sources.').optional(),
    gitCredentials: z
      .array(credentialFileSchema)
      .default([])
      .describe(
        "Files with credentials per host, in git's store format: each a path, or `{file, namespaces}` for the workspaces of " +
          'some namespaces (* for all). A path alone is for all, and with store.kubernetes for none.',
      ),
    caFile: pathSchema.describe('Certificates (PEM) to trust for git+https besides those of the system.').optional(),
    knownHosts: pathSchema.describe('Host keys for git+ssh.').optional(),
    sshKey: credentialFileSchema
      .describe('Private key for git+ssh: a path, or `{file, namespaces}`, as for gitCredentials.')
      .optional(),
    allowUnpinned: z.boolean().default(false).describe('Accept remote sources without #ref.'),
    allowLoopback: z.boolean().default(false).describe('Accept sources on loopback and link-local addresses.'),
    resolveInterval: durationSchema(1000).default('60s').describe('How often moving refs are asked for.'),
    cacheDirectory: pathSchema
      .default('~/.cache/plugset')
      .describe('Fetched plugins; may be deleted while nothing runs.'),
    cacheSizeMiB: countSchema(0).default(2048).describe('Size cap of the cache.'),
  })
  .prefault({})
  .describe('Where plugins may come from.');

const secretsSchema = z
  .array(
    z.union(
      [
        z.strictObject({ file: pathSchema, namespaces: namespacesSchema.optional() }),
        z.strictObject({
          env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,254}$/, 'must be the name of a variable'),
          namespaces: namespacesSchema.optional(),
        }),
      ],
      'must be {file: PATH} or {env: NAME}, each with namespaces if you like',
    ),
  )
  .default([])
  .describe(
    'Files and variables of the controller that settings of plugins may refer to, as {$ref: file:/PATH} and {$ref: env:NAME}. ' +
      'Never for custom resources: those refer to Secrets of their namespace, as {$ref: secret:NAME/KEY}.',
  );

const limitsSchema = z
  .strictObject({
    workers: countSchema(1).default(16).describe('Workspaces worked on at once.'),
    perEngine: countSchema(1).default(6).describe('Of these, at most so many on one engine.'),
    probeInterval: durationSchema(1000).default('30s').describe('Between two cheap looks at a workspace.'),
    deepInterval: durationSchema(1000).default('10m').describe('Between two looks that hash every file.'),
    firstPassRate: countSchema(1).default(50).describe('After a start, first passes per second.'),
    grace: durationSchema().default('30s').describe('How long a stop waits for running passes.'),
  })
  .prefault({})
  .describe('How much at once, and how often.');

const guardsSchema = z
  .strictObject({
    removedPlugins: countSchema(0)
      .default(DEFAULT_GUARDS.plugins)
      .describe('What would take away more managed plugins than this from one workspace within an hour …'),
    removedShare: z
      .number('must be a number from 0 to 1')
      .min(0, 'must be a number from 0 to 1')
      .max(1, 'must be a number from 0 to 1')
      .default(DEFAULT_GUARDS.share)
      .describe('… and more than this part of its set, waits for an approval (PruneHeld).'),
    // Each of them is remembered for the hour, in one document.
    emptiedPerHour: countSchema(0, 500)
      .default(DEFAULT_GUARDS.emptiedPerHour)
      .describe(
        'So many workspaces of one namespace may lose all their plugins within an hour, and some in so many namespaces; the others wait for an approval.',
      ),
    removedPerHour: countSchema(0)
      .default(DEFAULT_GUARDS.removedPerHour)
      .describe(
        'So many plugins may be removed in the whole fleet within an hour; further removals wait for an approval.',
      ),
  })
  .prefault({})
  .describe('What may be a mistake is not carried out before somebody agreed to it.');

const HOUR_MS = 3_600_000;

const activationSettings = z
  .strictObject({
    quiet: durationSchema().default('15s').describe('A restart waits until nothing has changed for so long …'),
    patience: durationSchema().default('2m').describe('… but no longer than this after the first change.'),
    restartsPerHour: countSchema(0)
      .default(DEFAULT_ACTIVATION.perHour)
      .describe('Restarts of one workspace within an hour.'),
    fleetRestarts: countSchema(1)
      .default(DEFAULT_FLEET_RESTARTS.restarts)
      .describe('Restarts of all workspaces together within activation.fleetWindow; the others wait for their turn.'),
    fleetWindow: durationSchema(1000, HOUR_MS).default('10m').describe('The span of activation.fleetRestarts.'),
    settle: durationSchema(0, HOUR_MS)
      .default('2m')
      .describe('For so long after a controller has begun to lead it restarts nothing.'),
  })
  .prefault({})
  .describe('When workspaces are restarted, so that their runtimes take changes up.');

const TEN_YEARS_MS = 10 * 365 * 24 * 3_600_000;

const deletionSchema = z
  .strictObject({
    giveUpAfter: durationSchema(0, TEN_YEARS_MS)
      .default('168h')
      .describe(
        'So long a deleted workspace waits for a target that cannot be reached or refuses, and for people where a guard holds ' +
          'it back; then it is forgotten, and they are told what was left behind. Default: 1h for custom resources, whose ' +
          'namespaces wait for it; else 168h.',
      ),
  })
  .prefault({})
  .describe('How a deleted workspace ends.');

const telemetrySchema = z
  .strictObject({
    listen: z
      .string()
      .regex(/^.*:\d{1,5}$/, 'must be host:port')
      .refine((text) => Number(text.slice(text.lastIndexOf(':') + 1)) <= 65_535, 'must have a port of at most 65535')
      .default('127.0.0.1:9464')
      .describe('Where /metrics, /livez and /readyz answer.'),
    workspaceMetrics: z.boolean().default(false).describe('Publish a series per workspace.'),
    logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info').describe('Least severe lines to print.'),
  })
  .prefault({});

const notificationsSchema = z
  .strictObject({
    webhook: z
      .strictObject({
        url: urlSchema.describe('Where messages are posted, as JSON. Loopback is allowed; redirects are not followed.'),
        secretFile: pathSchema.describe('File with the secret that signs them, of 16 characters or more.'),
      })
      .describe('Tell somebody what becomes of workspaces. Left out: nobody.')
      .optional(),
    groupWindow: durationSchema()
      .default('30s')
      .describe('What happens within it for one reason is one message; what is undone within it is none.'),
    on: z
      .array(z.enum(STANDINGS))
      .min(1, 'name at least one; leave webhook out to have none')
      .default(['Ready', 'Drifted', 'NotReady', 'Held', 'Stalled', 'Deleted'])
      .describe('What to tell the webhook of.'),
    kubernetesEvents: z
      .boolean()
      .default(true)
      .describe('Tell of custom resources by events (kubectl describe, kubectl events) too.'),
  })
  .prefault({})
  .describe('Transitions are told once each: posted to a webhook, and as events on custom resources.');

export const settingsSchema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Configuration'),
  store: storeSchema,
  kubernetes: kubernetesSchema,
  targets: targetsSchema,
  sources: sourcesSchema,
  secrets: secretsSchema,
  profiles: z
    .array(runtimeProfileSchema)
    .default([])
    .describe('Runtimes of one’s own, or other values for a built-in one.'),
  policy: policySchema.prefault({}).describe('What workspaces get that say nothing themselves.'),
  policyLocked: z
    .array(z.enum(LOCKABLE_POLICY))
    .default([])
    .describe(
      'Keys of policy that hold for every workspace, whatever its declaration says. With mode or allowEmpty among them a ' +
        'plan is approved by plugset approve alone, and by no annotation.',
    ),
  guards: guardsSchema,
  activation: activationSettings,
  deletion: deletionSchema,
  limits: limitsSchema,
  telemetry: telemetrySchema,
  notifications: notificationsSchema,
});

/** Everything a run can be told, as people write it, defaults filled in. */
export type Settings = z.infer<typeof settingsSchema>;
