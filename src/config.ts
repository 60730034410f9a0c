import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';

import type { Option } from 'commander';

import { ConfigError } from './config/config-error.ts';
import { readConfigFile, type ConfigFile } from './config/config-file.ts';
import {
  attributeOf,
  commanderOption,
  CONFIG_VARIABLE,
  SETTING_OPTIONS,
  type SettingOption,
} from './config/options.ts';
import { durationMs, settingsSchema, type Settings } from './config/settings.ts';
import { definedOnly } from './domain/defined-only.ts';
import { hexOf, sha256 } from './domain/digest.ts';
import { profilesWith, type RuntimeProfile } from './domain/profile.ts';
import { checkSchema, formatPath, type SchemaProblem } from './domain/schema-problems.ts';
import { API_VERSION, type Policy } from './domain/workspace.ts';

export { ConfigError } from './config/config-error.ts';

/** `origin`: where a person named it, for messages: `--files`, `DATABASE_URL`, `plugset.yaml:4`. */
export type StoreConfig =
  | { readonly kind: 'postgres'; readonly url: string; readonly origin: string }
  | { readonly kind: 'files'; readonly dir: string; readonly origin: string };

/** Everything a run can be told. Built once, here, from file, flags and environment; nothing else reads any of them. */
export interface Config {
  readonly store: StoreConfig;
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
  readonly profiles: readonly RuntimeProfile[];
  /** What the operator wants where a workspace says nothing; what is left out is the store's to say. */
  readonly policy: Partial<Policy>;
  /** Directories of the scheme local, in order. */
  readonly registries: readonly string[];
  /** Repositories of git+file must lie below one of these. */
  readonly gitRoots: readonly string[];
  readonly githubUrl: string;
  readonly giteaUrl: string | undefined;
  /** Files in git's credential-store format. */
  readonly gitCredentials: readonly string[];
  readonly caFile: string | undefined;
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

/** Settings as they came together, before they are turned into what runs. */
export interface Configuration {
  readonly config: Config;
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
export function configurationFrom(given: Given, logLevel: Config['logLevel'] = 'info'): Configuration {
  const draft = new Draft(configFile(given));
  for (const option of SETTING_OPTIONS) {
    const variable = process.env[option.variable] ?? '';
    if (variable !== '' && option.variable !== 'DATABASE_URL')
      draft.set(option, option.variable, 'variable', [variable]);
    const typed = given[attributeOf(option)];
    if (typed !== undefined) draft.set(option, option.flags.split(' ')[0] ?? '', 'typed', typed);
  }
  draft.suggest(['targets', 'docker', 'engines'], 'DOCKER_HOST', engines([process.env['DOCKER_HOST'] ?? '']));
  draft.suggest(['telemetry', 'logLevel'], 'default', logLevel);
  const url = process.env['DATABASE_URL'] ?? '';
  draft.chooseStore(url === '' ? undefined : url);
  const settings = draft.check();
  const { origins, file } = draft;
  return { config: configOf(settings, draft), settings, origins, file: file?.path };
}

/** {@link configurationFrom} for those who need no more than what runs. */
export function configFrom(given: Given, logLevel?: Config['logLevel']): Config {
  return configurationFrom(given, logLevel).config;
}

/** For `validate`, which opens neither a store nor a source. Throws {@link ConfigError}. */
export function allowsUnpinned(given: Given): boolean {
  const option = UNPINNED;
  return given[attributeOf(option)] === true || switchOf(option.variable, process.env[option.variable] ?? '');
}

const UNPINNED = SETTING_OPTIONS.find(({ flags }) => flags === '--allow-unpinned') as SettingOption;

export function unpinnedOption(): Option {
  return commanderOption(UNPINNED);
}

function configFile(given: Given): ConfigFile | undefined {
  const typed = given['config'];
  const path = typeof typed === 'string' ? typed : (process.env[CONFIG_VARIABLE] ?? '');
  return path === '' ? undefined : readConfigFile(resolve(path));
}

// --- bringing settings together ---------------------------------------------------------------------------------------

type Layer = 'file' | 'variable' | 'typed';
const RANKS: Readonly<Record<Layer, number>> = { file: 1, variable: 2, typed: 3 };

/** The settings while they come together: plain data, and who said what. */
class Draft {
  readonly file: ConfigFile | undefined;
  readonly origins = new Map<string, string>();
  readonly #ranks = new Map<string, number>();
  readonly #root: Record<string, unknown>;

  constructor(file: ConfigFile | undefined) {
    this.file = file;
    const value = file === undefined ? { apiVersion: API_VERSION, kind: 'Configuration' } : file.value;
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new ConfigError(`${file?.path}: must be a map`);
    this.#root = structuredClone(value) as Record<string, unknown>;
    for (const path of leavesOf(value)) this.#note(path, file?.lineOf(path) ?? 'default', 'file');
  }

  set(option: SettingOption, origin: string, layer: Exclude<Layer, 'file'>, given: unknown): void {
    const texts = Array.isArray(given) ? given.map(String) : given === true ? ['true'] : [String(given)];
    this.#put(option.path, valueOf(option, origin, texts));
    this.#note(option.path, origin, layer);
  }

  /** Takes a value that nobody gave a better one for. */
  suggest(path: readonly string[], origin: string, value: unknown): void {
    if (value === undefined || this.#at(path) !== undefined) return;
    this.#put(path, value);
    this.origins.set(formatPath(path), origin);
  }

  /**
   * Files or Postgres: what was typed before a variable before the file. DATABASE_URL is set in many environments for other
   * reasons: it is only asked where nothing else was named.
   */
  chooseStore(databaseUrl: string | undefined): void {
    const files = this.#rankOf('store.files');
    const postgres = Math.max(this.#rankOf('store.postgres.url'), this.#rankOf('store.postgres'));
    if (files === RANKS.file && postgres === RANKS.file)
      throw new ConfigError(`${this.file?.lineOf(['store']) ?? 'store'}: store: must name files or postgres, not both`);
    if (files > 0 && files >= postgres) return this.#drop(['store', 'postgres']);
    this.#drop(['store', 'files']);
    const isNamed =
      this.#at(['store', 'postgres', 'url']) !== undefined || this.#at(['store', 'postgres', 'urlFile']) !== undefined;
    if (!isNamed) this.suggest(['store', 'postgres', 'url'], 'DATABASE_URL', databaseUrl);
  }

  /** Throws {@link ConfigError} with every problem. */
  check(): Settings {
    const checked = checkSchema(settingsSchema, this.#root);
    if (checked.kind === 'valid') return checked.value;
    throw new ConfigError([...new Set(checked.problems.map((problem) => this.#describe(problem)))].join('\n'));
  }

  #describe(problem: SchemaProblem): string {
    const where = formatPath(problem.path);
    const option = SETTING_OPTIONS.find(({ path }) => where.startsWith(formatPath(path)));
    const origin = option === undefined ? undefined : this.origins.get(formatPath(option.path));
    if (origin !== undefined && (origin.startsWith('--') || /^[A-Z_]+$/.test(origin)))
      return `${origin}: ${problem.message}`;
    return this.file?.describe(problem) ?? `${where}: ${problem.message}`;
  }

  #at(path: readonly string[]): unknown {
    let value: unknown = this.#root;
    for (const key of path) value = (value as Record<string, unknown> | undefined)?.[key];
    return value;
  }

  #put(path: readonly string[], value: unknown): void {
    let map = this.#root;
    for (const key of path.slice(0, -1)) {
      map[key] ??= {};
      if (typeof map[key] !== 'object' || map[key] === null) return;
      map = map[key] as Record<string, unknown>;
    }
    map[path.at(-1) ?? ''] = value;
  }

  #drop(path: readonly string[]): void {
    const map = this.#at(path.slice(0, -1));
    if (typeof map === 'object' && map !== null) delete (map as Record<string, unknown>)[path.at(-1) ?? ''];
    const where = formatPath(path);
    for (const known of [...this.origins.keys()]) if (known.startsWith(where)) this.origins.delete(known);
  }

  #note(path: readonly PropertyKey[], origin: string, layer: Layer): void {
    this.origins.set(formatPath(path), origin);
    this.#ranks.set(formatPath(path), RANKS[layer]);
  }

  #rankOf(where: string): number {
    const ranks = [...this.#ranks].filter(([path]) => path === where || path.startsWith(`${where}.`));
    return Math.max(0, ...ranks.map(([, rank]) => rank));
  }
}

/** Paths of everything that is no map; an empty map counts as one thing. */
function leavesOf(value: unknown, path: readonly string[] = []): readonly (readonly string[])[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [path];
  const entries = Object.entries(value);
  return entries.length === 0 ? [path] : entries.flatMap(([key, inner]) => leavesOf(inner, [...path, key]));
}

/** What an option came to, in the form that the file has. */
function valueOf({ kind }: SettingOption, origin: string, texts: readonly string[]): unknown {
  const [text = ''] = texts;
  const all = texts.flatMap((one) => one.split(',')).filter((one) => one !== '');
  switch (kind) {
    case 'text':
      return text;
    case 'path':
      return resolve(text);
    case 'number':
      return text.trim() === '' || Number.isNaN(Number(text)) ? text : Number(text);
    case 'duration':
      // A bare number has always meant seconds here.
      return /^\d+(?:\.\d+)?$/.test(text) ? `${text}s` : text;
    case 'switch':
      return switchOf(origin, text);
    case 'paths':
      return all.map((path) => resolve(path));
    case 'roots':
      return all.map((path) => ({ path: resolve(path) }));
    case 'engines':
      return engines(all);
  }
}

function engines(all: readonly string[]): readonly unknown[] | undefined {
  const named = all
    .filter((one) => one !== '')
    .map((one) => {
      const [, name = 'default', address] = /^(?:([^=/:]+)=)?(.*)$/.exec(one) ?? [];
      return { name, address };
    });
  return named.length === 0 ? undefined : named;
}

/** Not commander's `.env()`: it takes any value for yes, `false` too. */
function switchOf(origin: string, text: string): boolean {
  const value = text.toLowerCase();
  if (['1', 'true', 'yes', 'on'].includes(value)) return true;
  if (['', '0', 'false', 'no', 'off'].includes(value)) return false;
  throw new ConfigError(`${origin}: must be true or false`);
}

// --- from settings to what runs ---------------------------------------------------------------------------------------

function configOf(
  settings: Settings,
  { file, origins }: Pick<Configuration, 'origins'> & { readonly file: ConfigFile | undefined },
): Config {
  const { store, targets, sources, limits, telemetry } = settings;
  // As people expect of a file: what it names lies beside it, wherever plugset is started.
  const base = file === undefined ? process.cwd() : dirname(file.path);
  const path = (text: string): string => resolve(base, text.replace(/^~(?=\/|$)/, homedir()));
  const optional = (text: string | undefined): string | undefined => (text === undefined ? undefined : path(text));
  return {
    store: storeOf(store, origins, path),
    stateDir: stateDirOf(store, path),
    cacheDir: path(sources.cacheDirectory),
    cacheBytes: sources.cacheSizeMiB * 1024 * 1024,
    authority: store.authority,
    engines: targets.docker.engines,
    roots: targets.directory.roots.map((root) => path(root.path)),
    profiles: profilesWith(settings.profiles),
    policy: definedOnly(settings.policy),
    registries: sources.registries.map(path),
    gitRoots: sources.gitRoots.map(path),
    githubUrl: sources.githubUrl,
    giteaUrl: sources.giteaUrl,
    gitCredentials: sources.gitCredentials.map(path),
    caFile: optional(sources.caFile),
    knownHosts: optional(sources.knownHosts),
    sshKey: optional(sources.sshKey),
    allowUnpinned: sources.allowUnpinned,
    allowLoopback: sources.allowLoopback,
    listen: listenOf(telemetry.listen),
    workers: limits.workers,
    laneLimit: limits.perEngine,
    probeIntervalMs: ms(limits.probeInterval),
    deepIntervalMs: ms(limits.deepInterval),
    resolveIntervalMs: ms(sources.resolveInterval),
    firstPassPerSecond: limits.firstPassRate,
    leaseMs: ms(store.lease),
    graceMs: ms(limits.grace),
    workspaceMetrics: telemetry.workspaceMetrics,
    logLevel: telemetry.logLevel,
    path: process.env['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  };
}

function storeOf(
  { files, postgres }: Settings['store'],
  origins: ReadonlyMap<string, string>,
  path: (text: string) => string,
): StoreConfig {
  const origin = (key: string): string => origins.get(`store.${key}`) ?? 'the configuration';
  if (files !== undefined) return { kind: 'files', dir: path(files), origin: origin('files') };
  if (postgres?.url !== undefined) return { kind: 'postgres', url: postgres.url, origin: origin('postgres.url') };
  if (postgres?.urlFile !== undefined)
    return { kind: 'postgres', url: urlIn(path(postgres.urlFile)), origin: origin('postgres.urlFile') };
  throw new ConfigError(
    'no store: give --files DIR, set DATABASE_URL to a Postgres, or name one below `store` in a --config file',
  );
}

function urlIn(file: string): string {
  try {
    const url = readFileSync(file, 'utf8').trim();
    if (/^postgres(?:ql)?:\/\//.test(url)) return url;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ConfigError(`store.postgres.urlFile: ${file} cannot be read (${code ?? 'unknown error'})`, {
      cause: error,
    });
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

function listenOf(value: string): Config['listen'] {
  const colon = value.lastIndexOf(':');
  const port = Number(value.slice(colon + 1));
  if (port > 65_535) throw new ConfigError('telemetry.listen: must be host:port, with a port of at most 65535');
  const host = value.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  return { host: host === '' ? '127.0.0.1' : host, port };
}

function ms(duration: string): number {
  const value = durationMs(duration);
  if (value === undefined) throw new Error(`${duration} passed the schema and is no duration`);
  return value;
}
