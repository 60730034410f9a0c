import { Option } from 'commander';

import { settingsSchema } from './settings.ts';

/** A setting that can be given on the command line, in a variable, or both. */
export interface SettingOption {
  readonly flags: string;
  readonly variable: string;
  /** Where the value goes in the settings. */
  readonly path: readonly string[];
  readonly kind: 'text' | 'path' | 'number' | 'duration' | 'switch' | 'section' | 'paths' | 'roots' | 'engines';
  readonly description: string;
  /** What --help says is meant without it; taken from the settings where they know. */
  readonly fallback?: string;
}

/** Which cluster. */
const CLUSTER: readonly SettingOption[] = [
  {
    flags: '--kubernetes',
    variable: 'PLUGSET_KUBERNETES',
    path: ['store', 'kubernetes'],
    kind: 'section',
    description: 'declare them as custom resources in a cluster; --kubeconfig or --context alone mean it too',
  },
  {
    flags: '--kubeconfig <file>',
    variable: 'PLUGSET_KUBECONFIG',
    path: ['kubernetes', 'kubeconfig'],
    kind: 'path',
    description: 'how the cluster is reached',
    fallback: 'the account of the pod, else KUBECONFIG, else ~/.kube/config',
  },
  {
    flags: '--context <name>',
    variable: 'PLUGSET_CONTEXT',
    path: ['kubernetes', 'context'],
    kind: 'text',
    description: 'context of the kubeconfig',
    fallback: 'its current one',
  },
];

const STORE: readonly SettingOption[] = [
  {
    flags: '--files <dir>',
    variable: 'PLUGSET_FILES',
    path: ['store', 'files'],
    kind: 'path',
    description: 'declare workspaces as YAML files below this directory',
  },
  {
    flags: '--database <url>',
    variable: 'DATABASE_URL',
    path: ['store', 'postgres', 'url'],
    kind: 'text',
    description: 'declare them in this Postgres (prefer DATABASE_URL: a flag shows in ps)',
  },
  ...CLUSTER,
  {
    flags: '--state-namespace <name>',
    variable: 'PLUGSET_STATE_NAMESPACE',
    path: ['store', 'kubernetes', 'stateNamespace'],
    kind: 'text',
    description: 'namespace of the Lease and ConfigMaps of the controller',
    fallback: 'its own; of a command, where they are: that of the context, else plugset-system',
  },
  {
    flags: '--state-dir <dir>',
    variable: 'PLUGSET_STATE_DIR',
    path: ['store', 'stateDirectory'],
    kind: 'path',
    description: 'what plugset remembers of --files',
    fallback: 'one per directory below ~/.local/state/plugset',
  },
  {
    flags: '--authority <name>',
    variable: 'PLUGSET_AUTHORITY',
    path: ['store', 'authority'],
    kind: 'text',
    description: 'id of this controller on its targets',
    fallback: 'made once, kept in the store',
  },
  {
    flags: '--log-level <level>',
    variable: 'PLUGSET_LOG_LEVEL',
    path: ['telemetry', 'logLevel'],
    kind: 'text',
    description: 'least severe lines to print: debug, info, warn or error',
  },
];

const UNPINNED: SettingOption = {
  flags: '--allow-unpinned',
  variable: 'PLUGSET_ALLOW_UNPINNED',
  path: ['sources', 'allowUnpinned'],
  kind: 'switch',
  description: 'accept remote sources without #ref',
};

const ENGINES: readonly SettingOption[] = [
  {
    flags: '--docker-host <[name=]address>',
    variable: 'PLUGSET_DOCKER_HOST',
    path: ['targets', 'docker', 'engines'],
    kind: 'engines',
    description: 'Docker engine; repeat for several',
    fallback: 'default=unix:///var/run/docker.sock, or DOCKER_HOST',
  },
  {
    flags: '--root <dir>',
    variable: 'PLUGSET_ROOT',
    path: ['targets', 'directory', 'roots'],
    kind: 'roots',
    description: 'directory targets are allowed below this; repeatable',
  },
  {
    flags: '--registry <dir>',
    variable: 'PLUGSET_REGISTRY',
    path: ['sources', 'registries'],
    kind: 'paths',
    description: 'directory of local plugins (local://name); repeatable',
  },
  {
    flags: '--git-root <dir>',
    variable: 'PLUGSET_GIT_ROOT',
    path: ['sources', 'gitRoots'],
    kind: 'paths',
    description: 'git+file repositories are allowed below this; repeatable',
  },
  {
    flags: '--cache-dir <dir>',
    variable: 'PLUGSET_CACHE_DIR',
    path: ['sources', 'cacheDirectory'],
    kind: 'path',
    description: 'fetched plugins',
  },
  {
    flags: '--cache-size <MiB>',
    variable: 'PLUGSET_CACHE_SIZE',
    path: ['sources', 'cacheSizeMiB'],
    kind: 'number',
    description: 'size cap of the cache',
  },
  {
    flags: '--github-url <url>',
    variable: 'PLUGSET_GITHUB_URL',
    path: ['sources', 'githubUrl'],
    kind: 'text',
    description: 'base of github:// sources',
  },
  {
    flags: '--gitea-url <url>',
    variable: 'PLUGSET_GITEA_URL',
    path: ['sources', 'giteaUrl'],
    kind: 'text',
    description: 'base of gitea:// sources',
  },
  {
    flags: '--git-credentials <file>',
    variable: 'PLUGSET_GIT_CREDENTIALS',
    path: ['sources', 'gitCredentials'],
    kind: 'paths',
    description: "credentials per host in git's store format; repeatable",
  },
  {
    flags: '--ca-file <file>',
    variable: 'PLUGSET_CA_FILE',
    path: ['sources', 'caFile'],
    kind: 'path',
    description: 'certificates to trust for git+https besides those of the system',
  },
  {
    flags: '--known-hosts <file>',
    variable: 'PLUGSET_KNOWN_HOSTS',
    path: ['sources', 'knownHosts'],
    kind: 'path',
    description: 'host keys for git+ssh',
  },
  {
    flags: '--ssh-key <file>',
    variable: 'PLUGSET_SSH_KEY',
    path: ['sources', 'sshKey'],
    kind: 'path',
    description: 'private key for git+ssh',
  },
  UNPINNED,
  {
    flags: '--allow-loopback',
    variable: 'PLUGSET_ALLOW_LOOPBACK',
    path: ['sources', 'allowLoopback'],
    kind: 'switch',
    description: 'accept sources on loopback and link-local addresses',
  },
  {
    flags: '--resolve-interval <duration>',
    variable: 'PLUGSET_RESOLVE_INTERVAL',
    path: ['sources', 'resolveInterval'],
    kind: 'duration',
    description: 'how often moving refs are asked for',
  },
];

const DAEMON: readonly SettingOption[] = [
  {
    flags: '--listen <host:port>',
    variable: 'PLUGSET_LISTEN',
    path: ['telemetry', 'listen'],
    kind: 'text',
    description: 'where /metrics, /livez and /readyz answer',
  },
  {
    flags: '--workers <n>',
    variable: 'PLUGSET_WORKERS',
    path: ['limits', 'workers'],
    kind: 'number',
    description: 'workspaces worked on at once',
  },
  {
    flags: '--per-engine <n>',
    variable: 'PLUGSET_PER_ENGINE',
    path: ['limits', 'perEngine'],
    kind: 'number',
    description: 'of these, at most so many on one engine',
  },
  {
    flags: '--probe-interval <duration>',
    variable: 'PLUGSET_PROBE_INTERVAL',
    path: ['limits', 'probeInterval'],
    kind: 'duration',
    description: 'between two cheap looks at a workspace',
  },
  {
    flags: '--deep-interval <duration>',
    variable: 'PLUGSET_DEEP_INTERVAL',
    path: ['limits', 'deepInterval'],
    kind: 'duration',
    description: 'between two looks that hash every file',
  },
  {
    flags: '--first-pass-rate <n>',
    variable: 'PLUGSET_FIRST_PASS_RATE',
    path: ['limits', 'firstPassRate'],
    kind: 'number',
    description: 'after a start, first passes per second',
  },
  {
    flags: '--lease <duration>',
    variable: 'PLUGSET_LEASE',
    path: ['store', 'lease'],
    kind: 'duration',
    description: 'how long a lost leader keeps others waiting',
    fallback: '15s, on Kubernetes 35s',
  },
  {
    flags: '--grace <duration>',
    variable: 'PLUGSET_GRACE',
    path: ['limits', 'grace'],
    kind: 'duration',
    description: 'how long a stop waits for running passes',
  },
  {
    flags: '--workspace-metrics',
    variable: 'PLUGSET_WORKSPACE_METRICS',
    path: ['telemetry', 'workspaceMetrics'],
    kind: 'switch',
    description: 'publish a series per workspace',
  },
];

export const SETTING_OPTIONS: readonly SettingOption[] = [...STORE, ...ENGINES, ...DAEMON];

/** The environment variable of the configuration file, for which the file itself has no place. */
export const CONFIG_VARIABLE = 'PLUGSET_CONFIG';

const CONFIG_OPTION = new Option('--config <file>', `configuration file (env: ${CONFIG_VARIABLE})`);

const GROUPS = [
  { of: 'store', heading: 'Where workspaces are declared:', options: STORE },
  { of: 'engines', heading: 'Targets and sources:', options: ENGINES },
  { of: 'daemon', heading: 'Daemon:', options: DAEMON },
] as const;

/**
 * The options of a command that only checks what people wrote; that opens the store; that reaches targets and sources as
 * well; of the daemon.
 */
export function settingOptions(of: 'rules' | 'store' | 'engines' | 'daemon'): readonly Option[] {
  if (of === 'rules') return [CONFIG_OPTION, ...[UNPINNED, ...CLUSTER].map(commanderOption)];
  const last = GROUPS.findIndex((group) => group.of === of);
  const groups = GROUPS.slice(0, last + 1).flatMap(({ heading, options }) =>
    options.map((option) => commanderOption(option).helpGroup(heading)),
  );
  return [CONFIG_OPTION.helpGroup(GROUPS[0].heading), ...groups];
}

/**
 * An option without a default and without a variable of its own: what was not typed is looked for elsewhere, and it has
 * to be known where a value came from.
 */
function commanderOption(setting: SettingOption): Option {
  const fallback = setting.fallback ?? defaultAt(setting.path);
  const isShown = fallback !== undefined && setting.kind !== 'switch' && setting.kind !== 'section';
  const option = new Option(
    setting.flags,
    `${setting.description} (env: ${setting.variable}${isShown ? `; default: ${fallback}` : ''})`,
  );
  const isList = setting.kind === 'paths' || setting.kind === 'roots' || setting.kind === 'engines';
  return isList
    ? option.argParser((value: string, before: readonly string[] | undefined) => [
        ...(before ?? []),
        ...value.split(','),
      ])
    : option;
}

export function attributeOf(setting: SettingOption): string {
  return new Option(setting.flags).attributeName();
}

const DEFAULTS: unknown = settingsSchema.parse({ apiVersion: 'plugset.dev/v1alpha1', kind: 'Configuration' });

/** As people write it; `undefined` where nothing is meant without it. */
export function defaultAt(path: readonly string[]): string | undefined {
  let value = DEFAULTS;
  for (const key of path) value = (value as Readonly<Record<string, unknown>> | undefined)?.[key];
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined;
}
