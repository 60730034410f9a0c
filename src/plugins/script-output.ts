import { EXECUTABLES_DIRECTORY, FILES_DIRECTORY, PLUGINS_DIRECTORY, RECEIPTS_DIRECTORY } from '../domain/layout.ts';
import { compareBytes, hexOf, isDigest, sha256, type Digest } from '../domain/digest.ts';
import { parseFence } from '../domain/fence.ts';
import type { LoadedFile, LoaderView } from '../domain/loader.ts';
import { parsePluginName, type PluginName } from '../domain/name.ts';
import type { Observation, ObservedPlugin, PluginManifest, Receipt } from '../domain/observation.ts';
import {
  SETTINGS_DIRECTORY,
  settingsBasePath,
  settingsPath,
  settingsReceiptPath,
  type ObservedSettings,
  type SettingsFile,
  type SettingsReceipt,
} from '../domain/plugin-settings.ts';
import { isSafePath } from '../domain/transaction.ts';
import { treeDigestOf, type TreeLists } from '../domain/tree.ts';
import { parseManifest, MANIFEST_PATH } from './manifest.ts';

/*
 * What look.sh and apply.sh print. Every line starts with a word of ours; names obey the grammar, and content follows
 * `| `, so nothing that lies on a target can pass for a line of the script. The last line is `end NONCE CODE REASON`.
 */

/** The end of a run that came through: how it ended, and what it printed before. */
export interface ScriptOutput {
  /** `Succeeded`, or the reason for stopping. */
  readonly reason: string;
  /** What exactly was wrong, in the script's words. */
  readonly why: string | undefined;
  readonly failed: readonly { readonly plugin: PluginName; readonly reason: string; readonly why: string }[];
  readonly kept: readonly string[];
  /** Absent when the run stopped before its look, and when the look is not whole. */
  readonly observation: Observation | undefined;
}

/**
 * Of all manifests of a look together: an agent can write two thousand of them, and one that is made for it takes a
 * millisecond a kilobyte, in which nothing else happens in this process.
 */
const MANIFESTS_LIMIT_CHARACTERS = 256 * 1024;

/** The scripts stop at 2000 directories and at 2000 receipts. What says more is not ours, but stands in its place. */
const MOST_PLUGINS = 4000;

/** A loader's files; the scripts print fewer unless an agent means harm. */
const MOST_FILES = 50_000;

/** Of lines that are only shown, for one plugin or for all. */
const MOST_SHOWN = 1000;

const EMPTY_LIST = sha256('');

interface Found {
  managed: boolean;
  present: boolean;
  readonly digests: Map<string, Digest>;
  readonly differing: string[];
}

interface Report {
  why: string | undefined;
  owner: Observation['owner'] | undefined;
  isWhole: boolean;
  journalPending: boolean;
  readonly odd: string[];
  readonly kept: string[];
  readonly failed: { plugin: PluginName; reason: string; why: string }[];
  readonly plugins: Map<PluginName, Found>;
  /** Lines of the files that were printed, by path. */
  readonly contents: Map<string, string[]>;
  readonly files: Map<string, Omit<LoadedFile, 'text'>>;
  readonly others: Set<string>;
  /** Of files of settings, by path: the owner, or that it is none. */
  readonly settings: Map<string, number | 'other'>;
  readonly settingsDigests: Map<string, string>;
  /** Config directory; set where everything was seen that a loader reads and writes. */
  root: string | undefined;
}

/** `undefined`: the run did not come to its end, or something else spoke. `candidates`: the names that were asked about. */
export function parseScriptOutput(
  stdout: Uint8Array,
  nonce: string,
  candidates: ReadonlySet<PluginName>,
): ScriptOutput | undefined {
  const text = Buffer.from(stdout).toString('utf8');
  if (!text.endsWith('\n')) return undefined;
  const lines = text.slice(0, -1).split('\n');
  const end = /^end (\S+) [01] ([A-Za-z]+)$/.exec(lines.pop() ?? '');
  if (end?.[1] !== nonce || end[2] === undefined) return undefined;

  const report: Report = {
    why: undefined,
    owner: undefined,
    isWhole: false,
    journalPending: false,
    odd: [],
    kept: [],
    failed: [],
    plugins: new Map(),
    contents: new Map(),
    files: new Map(),
    others: new Set(),
    settings: new Map(),
    settingsDigests: new Map(),
    root: undefined,
  };
  let content: string[] | undefined;
  for (const line of lines) {
    if (line.startsWith('| ') && content !== undefined) content.push(line.slice(2));
    else if (line.startsWith('content ')) report.contents.set(line.slice(8), (content = []));
    else if (!readLine(line, report)) return undefined;
  }
  const { why, failed, kept } = report;
  return { reason: end[2], why, failed, kept, observation: observationOf(report, candidates) };
}

/** `false` for a line that no script of ours prints. */
function readLine(line: string, report: Report): boolean {
  const space = line.indexOf(' ');
  const word = space < 0 ? line : line.slice(0, space);
  const rest = space < 0 ? '' : line.slice(space + 1);
  switch (word) {
    case 'owner':
      return readOwner(rest, report);
    case 'managed':
    case 'unmanaged':
      return readPlugin(word, rest, report);
    case 'digest':
      return readDigest(rest, report);
    case 'differs':
      return readDiffering(rest, report);
    case 'failed':
      return readFailed(rest, report);
    case 'odd':
      return show(report.odd, rest);
    case 'kept':
      return show(report.kept, rest);
    case 'why':
      report.why = rest;
      return true;
    case 'file':
      return readFile(rest, report);
    case 'other':
      report.others.add(rest);
      return report.others.size <= MOST_FILES;
    case 'loader':
      report.root = rest;
      return true;
    case 'setting':
      return readSetting(rest, report);
    case 'journal':
      report.journalPending = true;
      return true;
    case 'checked':
      report.isWhole = true;
      return true;
    default:
      return false;
  }
}

function show(shown: string[], text: string): true {
  if (shown.length < MOST_SHOWN) shown.push(text);
  return true;
}

function readOwner(rest: string, report: Report): boolean {
  const match = /^(\d+) (\d+)$/.exec(rest);
  if (match === null) return false;
  report.owner = { uid: Number(match[1]), gid: Number(match[2]) };
  return true;
}

function readPlugin(word: 'managed' | 'unmanaged', rest: string, report: Report): boolean {
  const [text = '', presence = 'present'] = rest.split(' ');
  const name = parsePluginName(text);
  if (name === undefined || report.plugins.size >= MOST_PLUGINS) return false;
  report.plugins.set(name, {
    managed: word === 'managed',
    present: presence === 'present',
    digests: new Map(),
    differing: [],
  });
  return true;
}

function readDigest(rest: string, report: Report): boolean {
  const [hex, path] = [rest.slice(0, 64), rest.slice(65)];
  if (report.settings.has(path)) {
    report.settingsDigests.set(path, hex);
    return /^[0-9a-f]{64}$/.test(hex);
  }
  const match = /^([0-9a-f]{64}) \.plugset\/(files|executables)\/(.+)$/.exec(rest);
  const found = report.plugins.get(match?.[3] as PluginName);
  if (match?.[2] === undefined || found === undefined) return false;
  found.digests.set(match[2], `sha256:${match[1]}`);
  return true;
}

function readDiffering(rest: string, report: Report): boolean {
  const slash = rest.indexOf('/');
  const found = report.plugins.get(rest.slice(0, slash) as PluginName);
  return found !== undefined && show(found.differing, rest.slice(slash + 1));
}

function readFailed(rest: string, report: Report): boolean {
  const match = /^(\S+) ([A-Za-z]+) (.*)$/.exec(rest);
  const plugin = parsePluginName(match?.[1] ?? '');
  if (plugin === undefined || report.failed.length >= MOST_PLUGINS) return false;
  report.failed.push({ plugin, reason: match?.[2] ?? '', why: match?.[3] ?? '' });
  return true;
}

function readSetting(rest: string, report: Report): boolean {
  const match = /^(\d+|other) (\S+)$/.exec(rest);
  if (match?.[2] === undefined || report.settings.size >= MOST_FILES) return false;
  report.settings.set(match[2], match[1] === 'other' ? 'other' : Number(match[1]));
  return true;
}

function readFile(rest: string, report: Report): boolean {
  const match = /^(\d+) ([0-7]{4}) (-|[0-9a-f]{64}) (.+)$/.exec(rest);
  const [, uid, mode = '', hex, path] = match ?? [];
  if (path === undefined || !isSafePath(path) || report.files.size >= MOST_FILES) return false;
  report.files.set(path, { uid: Number(uid), mode: Number.parseInt(mode, 8), ...(hex !== '-' && { sha256: hex }) });
  return true;
}

/** A text is one where what was printed is what was hashed: then it was UTF-8, and nobody has written to it meanwhile. */
function loaderOf({ files, others, root, contents }: Report): LoaderView | undefined {
  if (root === undefined) return undefined;
  const read = [...files].map(([path, file]): readonly [string, LoadedFile] => {
    const whole = textOf(contents.get(path) ?? []);
    const text = [whole, whole.slice(0, -1)].find((one) => hexOf(sha256(one)) === file.sha256);
    return [path, contents.has(path) && text !== undefined ? { ...file, text } : file];
  });
  return { files: new Map(read), others, root };
}

function observationOf(report: Report, candidates: ReadonlySet<PluginName>): Observation | undefined {
  if (!report.isWhole || report.owner === undefined) return undefined;
  const manifests = manifestsOf(report);
  const loader = loaderOf(report);
  const fence = parseFence(report.contents.get('.plugset/fence')?.[0] ?? '');
  return {
    owner: report.owner,
    plugins: Array.from(report.plugins, ([name, found]) =>
      pluginOf(name, found, manifests.get(name) ?? {}, report.contents, candidates),
    ).toSorted((a, b) => compareBytes(a.name, b.name)),
    odd: report.odd,
    ...(fence !== undefined && { fence }),
    journalPending: report.journalPending,
    ...settingsOf(report),
    ...(loader !== undefined && { loader }),
  };
}

function settingsOf(report: Report): Pick<Observation, 'settings' | 'areSettingsBlocked'> {
  const names = new Set(
    [...report.settings.keys()].flatMap((path) => {
      const [, inReceipts, inFiles] = /^(?:\.plugset\/settings\/(.+)|.*plugin-settings\/(.+)\.json)$/.exec(path) ?? [];
      return parsePluginName(inReceipts ?? inFiles ?? '') ?? [];
    }),
  );
  const settings: ObservedSettings[] = [];
  for (const name of names) {
    const [file, receiptFile, base] = [settingsPath, settingsReceiptPath, settingsBasePath].map((pathOf) =>
      settingsFileOf(pathOf(name), report),
    ) as [SettingsFile, SettingsFile, SettingsFile];
    const receipt = parseSettingsReceipt((report.contents.get(settingsReceiptPath(name)) ?? []).join('\n'), name);
    if ([file, receiptFile, base].some(({ kind }) => kind !== 'absent'))
      settings.push({ name, file, receiptFile, base, receipt });
  }
  return {
    ...(settings.length > 0 && { settings }),
    ...(report.settings.get(SETTINGS_DIRECTORY) === 'other' && { areSettingsBlocked: true }),
  };
}

function settingsFileOf(path: string, { settings, settingsDigests, contents }: Report): SettingsFile {
  const uid = settings.get(path);
  if (uid === undefined) return { kind: 'absent' };
  const hex = settingsDigests.get(path);
  // Gone between two tools, or not to be read after all.
  if (uid === 'other' || hex === undefined) return { kind: 'other' };
  const whole = textOf(contents.get(path) ?? []);
  const text = [whole, whole.slice(0, -1)].find((one) => contents.has(path) && hexOf(sha256(one)) === hex);
  return { kind: 'file', uid, sha256: hex, text };
}

/** Our own plugins first: what lies beside them must not take their versions out of sight. */
function manifestsOf({ contents, plugins }: Report): ReadonlyMap<PluginName, PluginManifest> {
  const manifests = new Map<PluginName, PluginManifest>();
  let characters = 0;
  for (const managed of [true, false]) {
    for (const [name, found] of plugins) {
      if (found.managed !== managed) continue;
      const content = (contents.get(`${PLUGINS_DIRECTORY}/${name}/${MANIFEST_PATH}`) ?? []).join('\n');
      characters += content.length;
      if (characters > MANIFESTS_LIMIT_CHARACTERS) return manifests;
      manifests.set(name, parseManifest(content));
    }
  }
  return manifests;
}

function pluginOf(
  name: PluginName,
  found: Found,
  manifest: PluginManifest,
  contents: Report['contents'],
  candidates: ReadonlySet<PluginName>,
): ObservedPlugin {
  const { managed, present } = found;
  if (!managed) {
    const compared = candidates.has(name) && { equalToDesired: found.differing.length === 0 };
    return { name, manifest, present, differing: [], ...compared };
  }
  const files = found.digests.get('files');
  const executables = found.digests.get('executables');
  const receipt = parseReceipt((contents.get(`${RECEIPTS_DIRECTORY}/${name}`) ?? []).join('\n'), name);
  return {
    name,
    manifest,
    present,
    differing: found.differing,
    // apply.sh takes a list that is gone for an empty one, too.
    filesSha256: hexOf(files ?? EMPTY_LIST),
    ...(files !== undefined && executables !== undefined && { listDigest: treeDigestOf(files, executables) }),
    ...listsOf(name, contents, files, executables),
    ...(receipt !== undefined && { receipt }),
  };
}

/**
 * Nothing where they were not printed, or are not what was hashed (cut off, or no UTF-8), or are no lists: what an agent
 * puts in their place while the script reads as root must not be shown to anybody.
 */
function listsOf(
  name: PluginName,
  contents: Report['contents'],
  filesDigest: Digest | undefined,
  executablesDigest: Digest | undefined,
): { readonly lists?: TreeLists } {
  const files = contents.get(`${FILES_DIRECTORY}/${name}`);
  const executables = contents.get(`${EXECUTABLES_DIRECTORY}/${name}`);
  if (files === undefined || executables === undefined || !files.every((line) => LIST_LINE.test(line))) return {};
  const paths = new Set(files.map((line) => line.slice(LIST_PATH_AT)));
  if (!executables.every((path) => paths.has(path))) return {};
  const lists = { files: textOf(files), executables: textOf(executables) };
  return sha256(lists.files) === filesDigest && sha256(lists.executables) === executablesDigest ? { lists } : {};
}

const LIST_LINE = /^[0-9a-f]{64} {2}./;
const LIST_PATH_AT = 66;

function textOf(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('');
}

/** `undefined` for a receipt that the agent garbled: the plugin stays managed, by the list beside it. */
function parseReceipt(text: string, plugin: PluginName): Receipt | undefined {
  const fields = parseObject(text);
  const { format, workspace, authority, source, revision, digest } = fields;
  if (format !== 1 || fields['plugin'] !== plugin) return undefined;
  if (typeof workspace !== 'string' || typeof authority !== 'string') return undefined;
  if (typeof source !== 'string' || typeof revision !== 'string') return undefined;
  if (typeof digest !== 'string' || !isDigest(digest)) return undefined;
  return { format, plugin, workspace, authority, source, revision, digest };
}

/** `undefined` for one that the agent garbled: the settings stay ours, by the file in its place. */
function parseSettingsReceipt(text: string, plugin: PluginName): SettingsReceipt | undefined {
  const { format, workspace, revision, sha256: hex, plugin: named } = parseObject(text);
  if (format !== 1 || named !== plugin || typeof workspace !== 'string') return undefined;
  if (typeof revision !== 'string' || !isDigest(revision)) return undefined;
  if (typeof hex !== 'string' || !/^[0-9a-f]{64}$/.test(hex)) return undefined;
  return { format, plugin, workspace, revision, sha256: hex };
}

function parseObject(text: string): Readonly<Partial<Record<keyof Receipt | keyof SettingsReceipt, unknown>>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}
