import { resolve } from 'node:path';
import { checkSchema, formatPath, type SchemaProblem } from '../domain/schema-problems.ts';
import { API_VERSION } from '../domain/workspace.ts';
import { ConfigError } from './config-error.ts';
import type { ConfigFile } from './config-file.ts';
import { SETTING_OPTIONS, type SettingOption } from './options.ts';
import { settingsSchema, type Settings } from './settings.ts';

type Layer = 'file' | 'variable' | 'typed';
const RANKS: Readonly<Record<Layer, number>> = { file: 1, variable: 2, typed: 3 };

/** Where several are named with the same right, the first. */
const STORES = ['files', 'postgres', 'kubernetes'] as const;
const STATE_NAMESPACE = 'store.kubernetes.stateNamespace';

/** The store, and what says how everything is to be read. The empty one: the whole is wrong. */
const DECISIVE: ReadonlySet<string> = new Set(['', 'apiVersion', 'kind', 'store', 'kubernetes']);

/** The settings while they come together: plain data, and who said what. */
export class Draft {
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
    const value = valueOf(option, texts);
    if (option.kind === 'section' && value === false) return;
    // What a file says within a section stays.
    this.#put(option.path, option.kind === 'section' && value === true ? (this.#at(option.path) ?? {}) : value);
    this.#note(option.path, origin, layer);
  }

  /** Takes a value that nobody gave a better one for. */
  suggest(path: readonly string[], origin: string, value: unknown): void {
    if (value === undefined || this.#at(path) !== undefined) return;
    this.#put(path, value);
    if (origin !== 'default') this.origins.set(formatPath(path), origin);
  }

  /**
   * What was typed before a variable before the file. Who types how a cluster is reached, and no store, means the cluster.
   * DATABASE_URL is set in many environments for other reasons: it is only asked where nothing else was named.
   */
  chooseStore(databaseUrl: string | undefined): void {
    // A place within a cluster is no word for the cluster, unless a file says it in there.
    const detail = this.#rankOf(STATE_NAMESPACE);
    const cluster = Math.max(this.#rankOf('store.kubernetes', STATE_NAMESPACE), detail === RANKS.file ? detail : 0);
    const ranks = [this.#rankOf('store.files'), this.#rankOf('store.postgres'), cluster];
    if (ranks.filter((rank) => rank === RANKS.file).length > 1) {
      const where = this.file?.lineOf(['store']) ?? 'store';
      throw new ConfigError(`${where}: store: must name one of ${STORES.join(', ')}, not several`);
    }
    const best = Math.max(...ranks);
    const named = best === 0 ? undefined : STORES[ranks.indexOf(best)];
    const isClusterMeant =
      best !== RANKS.typed && best !== RANKS.file && Math.max(this.#rankOf('kubernetes'), detail) === RANKS.typed;
    const chosen = isClusterMeant ? 'kubernetes' : (named ?? 'postgres');
    for (const store of STORES) if (store !== chosen) this.#drop(['store', store]);
    if (isClusterMeant) this.suggest(['store', 'kubernetes'], this.#originBelow('kubernetes'), {});
    const isNamed =
      this.#at(['store', 'postgres', 'url']) !== undefined || this.#at(['store', 'postgres', 'urlFile']) !== undefined;
    if (chosen === 'postgres' && !isNamed) this.suggest(['store', 'postgres', 'url'], 'DATABASE_URL', databaseUrl);
  }

  /** Rows of plugset's own are taken out by somebody who means it; a file or a row of another's may just not be there. */
  get isOthersToDelete(): boolean {
    return this.#at(['store', 'files']) !== undefined || this.#at(['store', 'postgres', 'query']) !== undefined;
  }

  get isCluster(): boolean {
    return this.#at(['store', 'kubernetes']) !== undefined;
  }

  /** Throws {@link ConfigError} with every problem. */
  check(): Settings {
    const checked = checkSchema(settingsSchema, this.#root);
    if (checked.kind === 'valid') return checked.value;
    throw new ConfigError(this.#describeAll(checked.problems).join('\n'));
  }

  /**
   * For whom only the store counts: leaves out every other section that has a problem, and answers these. Throws where the
   * problem is the store's, or in what says how the rest is to be read.
   */
  leaveOutAllButStore(): readonly string[] {
    const checked = checkSchema(settingsSchema, this.#root);
    if (checked.kind === 'valid') return [];
    const decisive = checked.problems.filter(({ path: [section = ''] }) => DECISIVE.has(String(section)));
    if (decisive.length > 0) throw new ConfigError(this.#describeAll(decisive).join('\n'));
    const problems = this.#describeAll(checked.problems);
    for (const { path } of checked.problems) this.#drop([String(path[0])]);
    return problems;
  }

  #describeAll(problems: readonly SchemaProblem[]): readonly string[] {
    return [...new Set(problems.map((problem) => this.#describe(problem)))];
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

  #originBelow(where: string): string {
    return [...this.origins].find(([path]) => path.startsWith(`${where}.`))?.[1] ?? 'default';
  }

  #rankOf(where: string, except?: string): number {
    const isWithin = (path: string): boolean => path === where || path.startsWith(`${where}.`);
    const ranks = [...this.#ranks].filter(([path]) => path !== except && isWithin(path));
    return Math.max(0, ...ranks.map(([, rank]) => rank));
  }
}

/** Paths of everything that is no map; an empty map counts as one thing. */
export function leavesOf(value: unknown, path: readonly string[] = []): readonly (readonly string[])[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [path];
  const entries = Object.entries(value);
  return entries.length === 0 ? [path] : entries.flatMap(([key, inner]) => leavesOf(inner, [...path, key]));
}

export function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce((inner, key) => (inner as Readonly<Record<string, unknown>>)[key], value);
}

/** What an option came to, in the form that the file has. */
function valueOf({ kind }: SettingOption, texts: readonly string[]): unknown {
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
    case 'section':
      return switchOf(text);
    case 'paths':
      return all.map((path) => resolve(path));
    case 'roots':
      return all.map((path) => ({ path: resolve(path) }));
    case 'engines':
      return enginesFrom(all);
  }
}

export function enginesFrom(all: readonly string[]): readonly unknown[] | undefined {
  const named = all
    .filter((one) => one !== '')
    .map((one) => {
      const [, name = 'default', address] = /^(?:([^=/:]+)=)?(.*)$/.exec(one) ?? [];
      return { name, address };
    });
  return named.length === 0 ? undefined : named;
}

/** Not commander's `.env()`: it takes any value for yes, `false` too. The schema refuses what is neither. */
function switchOf(text: string): boolean | string {
  const value = text.toLowerCase();
  if (['1', 'true', 'yes', 'on'].includes(value)) return true;
  if (['', '0', 'false', 'no', 'off'].includes(value)) return false;
  return text;
}
