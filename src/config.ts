import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';

import { ConfigError } from './config/config-error.ts';
import { readConfigFile, type ConfigFile } from './config/config-file.ts';
import { Draft, enginesFrom } from './config/draft.ts';
import { attributeOf, CONFIG_VARIABLE, SETTING_OPTIONS } from './config/options.ts';
import { podsFor, reservedIn } from './config/reserved.ts';
import { durationMs, type Settings } from './config/settings.ts';
import type {
  AllowedEngine,
  AllowedHosts,
  AllowedRoot,
  AllowedSecret,
  ContainerRulesOptions,
  CredentialFile,
  Ec2Access,
  Reserved,
} from './domain/access.ts';
import type { ActivationLimits } from './domain/activation.ts';
import type { FleetRestartLimits } from './domain/restart-budget.ts';
import { definedOnly } from './domain/defined-only.ts';
import { hexOf, sha256 } from './domain/digest.ts';
import { causeOf } from './domain/error-code.ts';
import type { Guards } from './domain/gate.ts';
import { profilesWith, type RuntimeProfile } from './domain/profile.ts';
import { LEAST_SIGNING_SECRET } from './domain/secrets.ts';
import type { Standing } from './domain/transition.ts';
import { DEFAULT_POLICY, FILES_DEFAULT_POLICY, type FleetPolicy } from './domain/workspace.ts';

export { ConfigError } from './config/config-error.ts';

/** `origin`: where a person named it, for messages: `--files`, `DATABASE_URL`, `plugset.yaml:4`. */
export type StoreConfig =
  | {
      readonly kind: 'postgres';
      readonly url: string;
      readonly origin: string;
      /** Left out: workspaces are rows of plugset's own tables. */
      readonly query?: PlatformQueryConfig | undefined;
    }
  | {
      readonly kind: 'files';
      readonly dir: string;
      readonly origin: string;
      /** An empty directory is believed where there were workspaces before. */
      readonly allowEmpty?: boolean;
    }
  | {
      readonly kind: 'kubernetes';
      readonly origin: string;
      /** Left out: the whole cluster. */
      readonly namespaces?: readonly string[] | undefined;
      /** Where Lease and ConfigMaps lie. Left out: the namespace that the connection names. */
      readonly stateNamespace?: string | undefined;
    };

/** How a Kubernetes cluster is reached: as the account of the pod, or as the first of these files that is there says. */
export interface KubernetesConfig {
  /** In a pod, unless a kubeconfig was named. */
  readonly inCluster?: { readonly host: string; readonly port: string; readonly directory: string } | undefined;
  readonly kubeconfigs: readonly string[];
  readonly context?: string | undefined;
}

export interface WebhookConfig {
  readonly url: string;
  readonly secretFile: string;
  readonly groupWindowMs: number;
  readonly on: readonly Standing[];
}

/** A platform's own tables, in the two queries that read them. */
export interface PlatformQueryConfig {
  readonly workspaces: string;
  readonly plugins: string;
  readonly intervalMs: number;
  readonly channel: string | undefined;
  readonly allowEmpty: boolean;
}

/** Everything a run can be told. Built once, here, from file, flags and environment; nothing else reads any of them. */
export interface Config {
  readonly store: StoreConfig;
  readonly kubernetes: KubernetesConfig;
  /** Status, generations, lease and small documents of the files store. */
  readonly stateDir: string;
  /** Artifacts: may be deleted at any time while nothing runs. */
  readonly cacheDir: string;
  readonly cacheBytes: number;
  /** Overrides the id that the store keeps of this controller. */
  readonly authority: string | undefined;
  readonly engines: readonly AllowedEngine[];
  /** What proves that a container is a workspace's. */
  readonly containerRules: ContainerRulesOptions;
  /** Directory targets must lie below one of these. */
  readonly roots: readonly AllowedRoot[];
  /** Hosts that ssh targets may name. */
  readonly sshHosts: readonly AllowedHosts[];
  /** Hosts that Docker engines may be on. */
  readonly engineHosts: readonly AllowedHosts[];
  /** EC2 instances that ec2 targets may be. */
  readonly ec2: Ec2Access;
  /** Whose workspaces may be pods. */
  readonly pods: Reserved;
  readonly profiles: readonly RuntimeProfile[];
  /** What workspaces get that say nothing themselves, and what of it holds for all. */
  readonly policy: FleetPolicy;
  /** Directories of the scheme local, in order. */
  readonly registries: readonly string[];
  /** Repositories of git+file must lie below one of these. */
  readonly gitRoots: readonly string[];
  readonly githubUrl: string;
  readonly giteaUrl: string | undefined;
  /** Files in git's credential-store format. */
  readonly gitCredentials: readonly CredentialFile[];
  /** What settings of plugins may refer to on this machine. */
  readonly secrets: readonly AllowedSecret[];
  /** The variables among them, as far as they are set. */
  readonly secretVariables: Readonly<Record<string, string | undefined>>;
  readonly caFile: string | undefined;
  readonly knownHosts: string | undefined;
  readonly sshKey: CredentialFile | undefined;
  readonly allowUnpinned: boolean;
  readonly allowLoopback: boolean;
  /** Who is told what becomes of workspaces; left out: nobody. */
  readonly webhook?: WebhookConfig | undefined;
  /** Whether transitions are told as events on the custom resources. */
  readonly kubernetesEvents: boolean;
  readonly listen: { readonly host: string; readonly port: number };
  readonly workers: number;
  readonly laneLimit: number;
  readonly guards: Guards;
  readonly activation: ActivationLimits;
  readonly fleetRestarts: FleetRestartLimits;
  /** How long the deletion of a workspace waits for a target that cannot be reached. */
  readonly giveUpDeletionAfterMs: number;
  readonly probeIntervalMs: number;
  readonly deepIntervalMs: number;
  readonly resolveIntervalMs: number;
  readonly firstPassPerSecond: number;
  /** Left out: as suits the store. */
  readonly leaseMs: number | undefined;
  readonly graceMs: number;
  readonly workspaceMetrics: boolean;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
  /** PATH that child processes (git, sh) get. */
  readonly path: string;
}

/** Settings as they came together, before they are turned into what runs. */
export interface Gathered {
  readonly settings: Settings;
  /** Where a leaf of the settings was given, by dotted path: `plugset.yaml:12`, `--workers`, `PLUGSET_WORKERS`. */
  readonly origins: ReadonlyMap<string, string>;
  /** The file that was read. */
  readonly file: string | undefined;
}

type Given = Readonly<Record<string, unknown>>;

/**
 * Brings together the file, the variables and what was typed; the later of these wins. Throws {@link ConfigError} with
 * every problem and where it was given. `logLevel` is meant where nobody asked for another.
 */
export function gatherSettings(given: Given, logLevel: Config['logLevel'] = 'info'): Gathered {
  const draft = draftOf(configFile(given), given, logLevel);
  return { settings: draft.check(), origins: draft.origins, file: draft.file?.path };
}

/**
 * Where plugset remembers what `--files` declare, if nobody has said where: one for each directory. `undefined` where
 * somebody has, or where a database remembers it.
 */
export function defaultStateDir({ settings: { store }, file }: Gathered): string | undefined {
  return store.stateDirectory === undefined && store.files !== undefined
    ? stateDirOf(store, pathsFrom(file))
    : undefined;
}

/** {@link configOf} {@link gatherSettings}. */
export function configFrom(given: Given, logLevel?: Config['logLevel']): Config {
  return configOf(gatherSettings(given, logLevel));
}

/**
 * {@link configFrom} for commands that need the store alone. They are what a person turns to when something is wrong, so
 * a file that is wrong elsewhere does not stop them: that part is left at its defaults and told in `problems`. Throws
 * {@link ConfigError} where the store itself cannot be told for certain.
 */
export function storeConfigFrom(
  given: Given,
  logLevel?: Config['logLevel'],
): { readonly config: Config; readonly problems: readonly string[] } {
  const { file, problem } = readableFile(given);
  const draft = draftOf(file, given, logLevel);
  const problems = [...(problem === undefined ? [] : [problem]), ...draft.leaveOutAllButStore()];
  suggestByStore(draft);
  return { config: configOf({ settings: draft.check(), origins: draft.origins, file: draft.file?.path }), problems };
}

/**
 * What was typed is certain whatever an unreadable file says. DATABASE_URL is not: it is asked only where the file names no
 * store, and nobody knows whether it does.
 */
function readableFile(given: Given): { readonly file?: ConfigFile | undefined; readonly problem?: string } {
  try {
    return { file: configFile(given) };
  } catch (error) {
    const hasState = isGiven(given, 'stateDir', 'PLUGSET_STATE_DIR');
    const isCluster = isGiven(given, 'kubernetes') && isGiven(given, 'kubeconfig', 'PLUGSET_KUBECONFIG');
    const isCertain = isCluster || isGiven(given, 'database') || (isGiven(given, 'files', 'PLUGSET_FILES') && hasState);
    if (!(error instanceof ConfigError)) throw error;
    if (isCertain) return { problem: error.message };
    throw new ConfigError(`${error.message}\n  ${WITHOUT_FILE}`, { cause: error });
  }
}

const WITHOUT_FILE =
  'Commands that need the store alone work without that file once the store is named: --database URL, or --files DIR --state-dir DIR';

function isGiven(given: Given, attribute: string, variable?: string): boolean {
  const typed = given[attribute];
  return (typed !== undefined && typed !== '') || (variable !== undefined && (process.env[variable] ?? '') !== '');
}

function draftOf(file: ConfigFile | undefined, given: Given, logLevel: Config['logLevel'] = 'info'): Draft {
  const draft = new Draft(file);
  for (const option of SETTING_OPTIONS) {
    const variable = process.env[option.variable] ?? '';
    if (variable !== '' && option.variable !== 'DATABASE_URL')
      draft.set(option, option.variable, 'variable', [variable]);
    const typed = given[attributeOf(option)];
    // An empty text is what a script gives whose variable is not set.
    if (typed !== undefined && typed !== '') draft.set(option, option.flags.split(' ')[0] ?? '', 'typed', typed);
  }
  draft.suggest(['targets', 'docker', 'engines'], 'DOCKER_HOST', enginesFrom([process.env['DOCKER_HOST'] ?? '']));
  draft.suggest(['telemetry', 'logLevel'], 'default', logLevel);
  const url = process.env['DATABASE_URL'] ?? '';
  draft.chooseStore(url === '' ? undefined : url);
  suggestByStore(draft);
  return draft;
}

function suggestByStore(draft: Draft): void {
  const policy = draft.isOthersToDelete ? FILES_DEFAULT_POLICY : DEFAULT_POLICY;
  // A namespace, and whoever deletes it, waits until its last object is gone. A row that is being deleted keeps nobody waiting.
  if (draft.isCluster) draft.suggest(['deletion', 'giveUpAfter'], 'default', '1h');
  for (const [key, value] of Object.entries(policy)) draft.suggest(['policy', key], 'default', value);
}

function configFile(given: Given): ConfigFile | undefined {
  const typed = given['config'];
  const path = typeof typed === 'string' ? typed : (process.env[CONFIG_VARIABLE] ?? '');
  return path === '' ? undefined : readConfigFile(resolve(path));
}

// --- from settings to what runs ---------------------------------------------------------------------------------------

/** Turns settings into what runs. Throws {@link ConfigError}, also when no store is named. */
export function configOf({ settings, origins, file }: Gathered): Config {
  const { store, targets, sources, guards, activation, deletion, limits, telemetry } = settings;
  const path = pathsFrom(file);
  const optional = (text: string | undefined): string | undefined => (text === undefined ? undefined : path(text));
  const reserved = reservedIn(store);
  const credential = (given: string | CredentialFile): CredentialFile => {
    const { file: name, ...rest } = typeof given === 'string' ? { file: given } : given;
    return reserved({ ...rest, file: path(name) });
  };
  // Whoever declares a workspace chooses its id.
  const trustIds = store.kubernetes === undefined;
  return {
    store: storeOf(store, origins, path),
    kubernetes: kubernetesOf(settings.kubernetes, path),
    stateDir: stateDirOf(store, path),
    cacheDir: path(sources.cacheDirectory),
    cacheBytes: sources.cacheSizeMiB * 1024 * 1024,
    authority: store.authority,
    engines: targets.docker.engines.map(reserved),
    containerRules: { ...targets.docker, trustIds: targets.docker.trustIds ?? trustIds },
    roots: targets.directory.roots.map((root) => reserved({ ...root, path: path(root.path) })),
    sshHosts: sshHostsOf(targets.ssh, 'workspaces', optional).map(reserved),
    engineHosts: sshHostsOf(targets.ssh, 'engines', optional),
    pods: podsFor(store, targets.pod),
    ec2: ec2Of({ ...targets.ec2, regions: targets.ec2.regions.map(reserved) }, trustIds),
    profiles: profilesWith(settings.profiles),
    policy: { ...DEFAULT_POLICY, ...definedOnly(settings.policy), locked: settings.policyLocked },
    registries: sources.registries.map(path),
    gitRoots: sources.gitRoots.map(path),
    githubUrl: sources.githubUrl,
    giteaUrl: sources.giteaUrl,
    gitCredentials: sources.gitCredentials.map(credential),
    secrets: settings.secrets.map((one) => reserved('file' in one ? { ...one, file: path(one.file) } : one)),
    secretVariables: Object.fromEntries(
      settings.secrets.flatMap((one) => ('env' in one ? [[one.env, process.env[one.env]]] : [])),
    ),
    caFile: optional(sources.caFile),
    knownHosts: optional(sources.knownHosts),
    sshKey: sources.sshKey === undefined ? undefined : credential(sources.sshKey),
    allowUnpinned: sources.allowUnpinned,
    allowLoopback: sources.allowLoopback,
    webhook: webhookOf(settings.notifications, path),
    kubernetesEvents: settings.notifications.kubernetesEvents,
    listen: listenOf(telemetry.listen),
    workers: limits.workers,
    laneLimit: limits.perEngine,
    guards: {
      plugins: guards.removedPlugins,
      share: guards.removedShare,
      emptiedPerHour: guards.emptiedPerHour,
      removedPerHour: guards.removedPerHour,
    },
    activation: {
      quietMs: ms(activation.quiet),
      patienceMs: ms(activation.patience),
      perHour: activation.restartsPerHour,
    },
    fleetRestarts: {
      restarts: activation.fleetRestarts,
      windowMs: ms(activation.fleetWindow),
      settleMs: ms(activation.settle),
    },
    giveUpDeletionAfterMs: ms(deletion.giveUpAfter),
    probeIntervalMs: ms(limits.probeInterval),
    deepIntervalMs: ms(limits.deepInterval),
    resolveIntervalMs: ms(sources.resolveInterval),
    firstPassPerSecond: limits.firstPassRate,
    leaseMs: store.lease === undefined ? undefined : ms(store.lease),
    graceMs: ms(limits.grace),
    workspaceMetrics: telemetry.workspaceMetrics,
    logLevel: telemetry.logLevel,
    path: process.env['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  };
}

/** As people expect of a file: what it names lies beside it, wherever plugset is started. */
function pathsFrom(file: string | undefined): (text: string) => string {
  const base = file === undefined ? process.cwd() : dirname(file);
  return (text) => resolve(base, text.replace(/^~(?=\/|$)/, homedir()));
}

/**
 * {@link configOf} for those who tell a webhook. Throws {@link ConfigError} also where its secret is not to be had, which
 * would come out with the first message only; whoever tells nobody need not be able to read it.
 */
export function notifyingConfigOf(gathered: Gathered): Config {
  const config = configOf(gathered);
  const problem = config.webhook === undefined ? undefined : secretProblem(config.webhook.secretFile);
  if (problem === undefined) return config;
  const key = 'notifications.webhook.secretFile';
  throw new ConfigError(`${gathered.origins.get(key) ?? 'the configuration'}: ${key}: ${problem}`);
}

function secretProblem(path: string): string | undefined {
  try {
    const { length } = readFileSync(path, 'utf8').trim();
    return length >= LEAST_SIGNING_SECRET
      ? undefined
      : `${path} holds ${length === 0 ? 'nothing' : `less than ${LEAST_SIGNING_SECRET} characters`}; put a secret there: openssl rand -hex 32`;
  } catch (error) {
    return `${path} cannot be read (${causeOf(error)})`;
  }
}

function storeOf(
  { files, postgres, kubernetes, allowEmpty }: Settings['store'],
  origins: ReadonlyMap<string, string>,
  path: (text: string) => string,
): StoreConfig {
  const origin = (key: string): string => origins.get(`store.${key}`) ?? 'the configuration';
  if (files !== undefined)
    return { kind: 'files', dir: path(files), origin: origin('files'), ...(allowEmpty ? { allowEmpty } : {}) };
  if (kubernetes !== undefined) return { kind: 'kubernetes', origin: origin('kubernetes'), ...kubernetes };
  const query = queryOf(postgres?.query);
  if (postgres?.url !== undefined)
    return { kind: 'postgres', url: postgres.url, origin: origin('postgres.url'), query };
  if (postgres?.urlFile !== undefined)
    return { kind: 'postgres', url: urlIn(path(postgres.urlFile)), origin: origin('postgres.urlFile'), query };
  throw new ConfigError(
    'no store: give --files DIR or --kubernetes, set DATABASE_URL to a Postgres, or name one below `store` in a --config file',
  );
}

/** Where the kubelet puts the account of a pod. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** As kubectl looks for it, in a pod and outside. */
function kubernetesOf(
  { kubeconfig, context }: Settings['kubernetes'],
  path: (text: string) => string,
): KubernetesConfig {
  if (kubeconfig !== undefined) return { kubeconfigs: [path(kubeconfig)], context };
  const named = (process.env['KUBECONFIG'] ?? '').split(':').filter((one) => one !== '');
  const kubeconfigs = named.length > 0 ? named.map((one) => resolve(one)) : [join(homedir(), '.kube/config')];
  const host = process.env['KUBERNETES_SERVICE_HOST'] ?? '';
  if (host === '' || context !== undefined) return { kubeconfigs, context };
  const port = process.env['KUBERNETES_SERVICE_PORT'] ?? '443';
  return { kubeconfigs, inCluster: { host, port, directory: SERVICE_ACCOUNT } };
}

function queryOf(query: NonNullable<Settings['store']['postgres']>['query']): PlatformQueryConfig | undefined {
  if (query === undefined) return undefined;
  const { workspaces, plugins, interval, channel, allowEmpty } = query;
  return { workspaces, plugins, intervalMs: ms(interval), channel, allowEmpty };
}

function urlIn(file: string): string {
  try {
    const url = readFileSync(file, 'utf8').trim();
    if (/^postgres(?:ql)?:\/\//.test(url)) return url;
  } catch (error) {
    throw new ConfigError(`store.postgres.urlFile: ${file} cannot be read (${causeOf(error)})`, { cause: error });
  }
  throw new ConfigError(`store.postgres.urlFile: ${file} holds no postgres:// URL`);
}

/**
 * A state directory of its own for every directory of declarations: with a shared one, pointing plugset at another
 * directory would look like deleting everything in the first.
 */
function stateDirOf({ stateDirectory, files }: Settings['store'], path: (text: string) => string): string {
  if (stateDirectory !== undefined) return path(stateDirectory);
  const dir = files === undefined ? undefined : path(files);
  const name = dir === undefined ? 'postgres' : `${basename(dir)}-${hexOf(sha256(dir)).slice(0, 12)}`;
  return join(homedir(), '.local/state/plugset', name);
}

function sshHostsOf(
  entries: Settings['targets']['ssh'],
  use: Settings['targets']['ssh'][number]['for'],
  optional: (text: string | undefined) => string | undefined,
): readonly AllowedHosts[] {
  return entries
    .filter((entry) => entry.for === use)
    .map(({ keyFile, agent, knownHostsFile, ...entry }) => ({
      ...entry,
      keyFile: optional(keyFile),
      agent: optional(agent),
      knownHostsFile: optional(knownHostsFile),
    }));
}

function ec2Of(
  { tag, trustIds: given, instances, maxTunnel, ...access }: Settings['targets']['ec2'],
  trustIds: boolean,
): Ec2Access {
  const maxTunnelSeconds = maxTunnel === undefined ? undefined : Math.floor(ms(maxTunnel) / 1000);
  return { ...access, rules: { tag, trustIds: given ?? trustIds, instances }, maxTunnelSeconds };
}

function webhookOf(
  { webhook, groupWindow, on }: Settings['notifications'],
  path: (text: string) => string,
): WebhookConfig | undefined {
  if (webhook === undefined) return undefined;
  return { url: webhook.url, secretFile: path(webhook.secretFile), groupWindowMs: ms(groupWindow), on };
}

function listenOf(value: string): Config['listen'] {
  const colon = value.lastIndexOf(':');
  const host = value.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  return { host: host === '' ? '127.0.0.1' : host, port: Number(value.slice(colon + 1)) };
}

function ms(duration: string): number {
  const value = durationMs(duration);
  if (value === undefined) throw new Error(`${duration} passed the schema and is no duration`);
  return value;
}
