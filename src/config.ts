import { homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';

import { Option } from 'commander';

import { hexOf, sha256 } from './domain/digest.ts';
import { isName, NAME_RULE } from './domain/name.ts';

/** Everything a run can be told. Built once, here, from flags and environment; nothing else reads either. */
export interface Config {
  readonly store:
    | { readonly kind: 'postgres'; readonly url: string }
    | { readonly kind: 'files'; readonly dir: string };
  /** Status, generations, lease and small documents of the files store. */
  readonly stateDir: string;
  /** Artifacts: may be deleted at any time while nothing runs. */
  readonly cacheDir: string;
  readonly cacheBytes: number;
  /** Overrides the id that the store keeps of this controller. */
  readonly authority: string | undefined;
  readonly engines: readonly { readonly name: string; readonly address: string }[];
  /** Directory targets must lie below one of these. */
  readonly roots: readonly string[];
  /** Directories of the scheme local, in order. */
  readonly registries: readonly string[];
  /** Repositories of git+file must lie below one of these. */
  readonly gitRoots: readonly string[];
  readonly githubUrl: string;
  readonly giteaUrl: string | undefined;
  /** Files in git's credential-store format. */
  readonly gitCredentials: readonly string[];
  readonly knownHosts: string | undefined;
  readonly sshKey: string | undefined;
  readonly allowUnpinned: boolean;
  readonly allowLoopback: boolean;
  readonly listen: { readonly host: string; readonly port: number };
  readonly workers: number;
  readonly laneLimit: number;
  readonly probeIntervalMs: number;
  readonly deepIntervalMs: number;
  readonly resolveIntervalMs: number;
  readonly firstPassPerSecond: number;
  readonly leaseMs: number;
  readonly graceMs: number;
  readonly workspaceMetrics: boolean;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
  /** PATH that child processes (git, sh) get. */
  readonly path: string;
}

/** What a person gave that cannot be used; the message says which option and what it takes. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const list = (value: string, before: readonly string[] | undefined): readonly string[] => [
  ...(before ?? []),
  ...value.split(','),
];

/** As a person would give them. A command that does not have an option has its default all the same. */
const DEFAULTS = {
  logLevel: 'info',
  cacheDir: join(homedir(), '.cache/plugset'),
  cacheSize: '2048',
  githubUrl: 'https://github.com',
  resolveInterval: '60',
  listen: '127.0.0.1:9464',
  workers: '16',
  perEngine: '6',
  probeInterval: '30',
  deepInterval: '600',
  firstPassRate: '50',
  lease: '15',
  grace: '30',
} as const;

/** Variables of the switches. Not commander's `.env()`: it takes any value for yes, `false` too. */
const FLAGS = {
  allowUnpinned: 'PLUGSET_ALLOW_UNPINNED',
  allowLoopback: 'PLUGSET_ALLOW_LOOPBACK',
  workspaceMetrics: 'PLUGSET_WORKSPACE_METRICS',
} as const;

/** Options of every command that opens the store. */
export function storeOptions(): readonly Option[] {
  return [
    new Option('--files <dir>', 'declare workspaces as YAML files below this directory').env('PLUGSET_FILES'),
    new Option('--database <url>', 'declare them in this Postgres (prefer DATABASE_URL: a flag shows in ps)').env(
      'DATABASE_URL',
    ),
    new Option(
      '--state-dir <dir>',
      'what plugset remembers of --files (default: one per directory below ~/.local/state/plugset)',
    ).env('PLUGSET_STATE_DIR'),
    new Option(
      '--authority <name>',
      'id of this controller on its targets (default: made once, kept in the store)',
    ).env('PLUGSET_AUTHORITY'),
    new Option('--log-level <level>', 'least severe lines to print')
      .choices(['debug', 'info', 'warn', 'error'])
      .default(DEFAULTS.logLevel)
      .env('PLUGSET_LOG_LEVEL'),
  ];
}

/** Options of every command that looks at targets or fetches plugins. */
export function engineOptions(): readonly Option[] {
  return [
    new Option(
      '--docker-host <[name=]address>',
      'Docker engine; repeat for several (default: default=unix:///var/run/docker.sock)',
    )
      .env('PLUGSET_DOCKER_HOST')
      .argParser(list),
    new Option('--root <dir>', 'directory targets are allowed below this; repeatable')
      .env('PLUGSET_ROOT')
      .argParser(list),
    new Option('--registry <dir>', 'directory of local plugins (local://name); repeatable')
      .env('PLUGSET_REGISTRY')
      .argParser(list),
    new Option('--git-root <dir>', 'git+file repositories are allowed below this; repeatable')
      .env('PLUGSET_GIT_ROOT')
      .argParser(list),
    new Option('--cache-dir <dir>', 'fetched plugins').env('PLUGSET_CACHE_DIR').default(DEFAULTS.cacheDir),
    new Option('--cache-size <MiB>', 'size cap of the cache').env('PLUGSET_CACHE_SIZE').default(DEFAULTS.cacheSize),
    new Option('--github-url <url>', 'base of github:// sources').env('PLUGSET_GITHUB_URL').default(DEFAULTS.githubUrl),
    new Option('--gitea-url <url>', 'base of gitea:// sources').env('PLUGSET_GITEA_URL'),
    new Option('--git-credentials <file>', "credentials per host in git's store format; repeatable")
      .env('PLUGSET_GIT_CREDENTIALS')
      .argParser(list),
    new Option('--known-hosts <file>', 'host keys for git+ssh').env('PLUGSET_KNOWN_HOSTS'),
    new Option('--ssh-key <file>', 'private key for git+ssh').env('PLUGSET_SSH_KEY'),
    unpinnedOption(),
    new Option(
      '--allow-loopback',
      `accept sources on loopback and link-local addresses (env: ${FLAGS.allowLoopback}=true)`,
    ),
    new Option('--resolve-interval <seconds>', 'how often moving refs are asked for')
      .env('PLUGSET_RESOLVE_INTERVAL')
      .default(DEFAULTS.resolveInterval),
  ];
}

/** Also of `validate`, which opens neither a store nor a source and so builds no {@link Config}. */
export function unpinnedOption(): Option {
  return new Option('--allow-unpinned', `accept remote sources without #ref (env: ${FLAGS.allowUnpinned}=true)`);
}

/** What {@link unpinnedOption} came to. Throws {@link ConfigError}. */
export function allowsUnpinned(given: Given): boolean {
  return flag(given, 'allowUnpinned');
}

/** Options of the daemon alone. */
export function daemonOptions(): readonly Option[] {
  return [
    new Option('--listen <host:port>', 'where /metrics, /livez and /readyz answer')
      .env('PLUGSET_LISTEN')
      .default(DEFAULTS.listen),
    new Option('--workers <n>', 'workspaces worked on at once').env('PLUGSET_WORKERS').default(DEFAULTS.workers),
    new Option('--per-engine <n>', 'of these, at most so many on one engine')
      .env('PLUGSET_PER_ENGINE')
      .default(DEFAULTS.perEngine),
    new Option('--probe-interval <seconds>', 'between two cheap looks at a workspace')
      .env('PLUGSET_PROBE_INTERVAL')
      .default(DEFAULTS.probeInterval),
    new Option('--deep-interval <seconds>', 'between two looks that hash every file')
      .env('PLUGSET_DEEP_INTERVAL')
      .default(DEFAULTS.deepInterval),
    new Option('--first-pass-rate <n>', 'after a start, first passes per second')
      .env('PLUGSET_FIRST_PASS_RATE')
      .default(DEFAULTS.firstPassRate),
    new Option('--lease <seconds>', 'how long a lost leader keeps others waiting')
      .env('PLUGSET_LEASE')
      .default(DEFAULTS.lease),
    new Option('--grace <seconds>', 'how long a stop waits for running passes')
      .env('PLUGSET_GRACE')
      .default(DEFAULTS.grace),
    new Option('--workspace-metrics', `publish a series per workspace (env: ${FLAGS.workspaceMetrics}=true)`),
  ];
}

type Given = Readonly<Record<string, unknown>>;

/** Reads what commander collected. Throws {@link ConfigError}. */
export function configFrom(given: Given): Config {
  return {
    store: storeFrom(given),
    stateDir: stateDirFrom(given),
    cacheDir: path(text(given, 'cacheDir')),
    cacheBytes: number(given, 'cacheSize') * 1024 * 1024,
    authority: authorityFrom(given),
    engines: enginesFrom(texts(given, 'dockerHost')),
    roots: texts(given, 'root').map(path),
    registries: texts(given, 'registry').map(path),
    gitRoots: texts(given, 'gitRoot').map(path),
    githubUrl: text(given, 'githubUrl'),
    giteaUrl: optional(given, 'giteaUrl'),
    gitCredentials: texts(given, 'gitCredentials').map(path),
    knownHosts: optional(given, 'knownHosts', path),
    sshKey: optional(given, 'sshKey', path),
    allowUnpinned: allowsUnpinned(given),
    allowLoopback: flag(given, 'allowLoopback'),
    listen: listenFrom(text(given, 'listen')),
    workers: number(given, 'workers', 1),
    laneLimit: number(given, 'perEngine', 1),
    probeIntervalMs: number(given, 'probeInterval', 1) * 1000,
    deepIntervalMs: number(given, 'deepInterval', 1) * 1000,
    resolveIntervalMs: number(given, 'resolveInterval', 1) * 1000,
    firstPassPerSecond: number(given, 'firstPassRate', 1),
    leaseMs: number(given, 'lease', 1) * 1000,
    graceMs: number(given, 'grace') * 1000,
    workspaceMetrics: flag(given, 'workspaceMetrics'),
    logLevel: text(given, 'logLevel') as Config['logLevel'],
    path: process.env['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  };
}

function storeFrom(given: Given): Config['store'] {
  const dir = optional(given, 'files', path);
  const url = optional(given, 'database');
  // DATABASE_URL is set in many environments for other reasons, so files win; but what was typed wins over any variable.
  const isTyped = url !== undefined && url !== process.env['DATABASE_URL'];
  const isFromEnvironment =
    dir !== undefined && dir === optional({ files: process.env['PLUGSET_FILES'] }, 'files', path);
  if (dir !== undefined && !(isTyped && isFromEnvironment)) return { kind: 'files', dir };
  if (url !== undefined) return { kind: 'postgres', url };
  throw new ConfigError('no store: give --files DIR, or set DATABASE_URL to a Postgres');
}

/**
 * A state directory of its own for every directory of declarations: with a shared one, pointing plugset at another
 * directory would look like deleting everything in the first.
 */
function stateDirFrom(given: Given): string {
  const explicit = optional(given, 'stateDir', path);
  if (explicit !== undefined) return explicit;
  const files = optional(given, 'files', path);
  const name = files === undefined ? 'postgres' : `${basename(files)}-${hexOf(sha256(files)).slice(0, 12)}`;
  return join(homedir(), '.local/state/plugset', name);
}

function authorityFrom(given: Given): string | undefined {
  const authority = optional(given, 'authority');
  if (authority !== undefined && !isName(authority))
    throw new ConfigError(`--authority ${authority}: must be ${NAME_RULE}`);
  return authority;
}

function enginesFrom(hosts: readonly string[]): Config['engines'] {
  const given = hosts.length > 0 ? hosts : [process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock'];
  return given.map((host) => {
    const match = /^(?:([a-z0-9][a-z0-9._-]{0,127})=)?((?:unix|tcp|http|https):\/\/.+)$/.exec(host);
    if (match?.[2] === undefined) {
      throw new ConfigError(`--docker-host ${host}: must be [name=]unix:///path or [name=]tcp://host:port`);
    }
    return { name: match[1] ?? 'default', address: match[2] };
  });
}

function listenFrom(value: string): Config['listen'] {
  const match = /^(.*):(\d{1,5})$/.exec(value);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port > 65_535) throw new ConfigError(`--listen ${value}: must be host:port`);
  return { host: match[1] === '' ? '127.0.0.1' : match[1].replace(/^\[(.*)\]$/, '$1'), port };
}

function text(given: Given, name: keyof typeof DEFAULTS): string {
  const value = given[name];
  return typeof value === 'string' ? value : DEFAULTS[name];
}

function optional(given: Given, name: string, map: (value: string) => string = (value) => value): string | undefined {
  const value = given[name];
  return typeof value === 'string' && value !== '' ? map(value) : undefined;
}

function texts(given: Given, name: string): readonly string[] {
  const value = given[name];
  return Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string' && one !== '') : [];
}

function flag(given: Given, name: keyof typeof FLAGS): boolean {
  if (given[name] === true) return true;
  const value = process.env[FLAGS[name]]?.toLowerCase() ?? '';
  if (['1', 'true', 'yes', 'on'].includes(value)) return true;
  if (['', '0', 'false', 'no', 'off'].includes(value)) return false;
  throw new ConfigError(`${FLAGS[name]}=${value}: must be true or false`);
}

function number(given: Given, name: keyof typeof DEFAULTS, least = 0): number {
  const value = Number(text(given, name));
  if (Number.isFinite(value) && value >= least) return value;
  throw new ConfigError(`option ${name}: ${text(given, name)} is no number of ${least} or more`);
}

function path(value: string): string {
  return resolve(value);
}
