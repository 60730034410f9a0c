import { compareBytes } from './digest.ts';
import { PLUGINS_DIRECTORY, STATE_DIRECTORY } from './layout.ts';
import type { PluginName } from './name.ts';

/*
 * What a runtime's loader makes of plugins at each of its starts, beside plugins/: copies of files, blocks at the end of the
 * memory file, keys of settings.json. It keeps no record of that, and takes none of it back.
 */

/** Made at every start, for a plugin without anything too. */
export const LOADER_DIRECTORY = '.claude';
export const SETTINGS_FILE = `${LOADER_DIRECTORY}/settings.json`;
export const SKILLS_DIRECTORY = 'skills';
const HOOKS_DIRECTORY = `${LOADER_DIRECTORY}/hooks`;
const COMMANDS_DIRECTORY = `${LOADER_DIRECTORY}/commands`;

/** What lay there before a loader came by, under the same path: the user's own. */
export const BASE_DIRECTORY = `${STATE_DIRECTORY}/base`;
/** What a file held before plugset edited it last, under the same path. */
export const BACKUP_DIRECTORY = `${STATE_DIRECTORY}/backup`;

/** One regular file, as its owner sees it. */
export interface LoadedFile {
  readonly uid: number;
  /** Permission bits. */
  readonly mode: number;
  /** Hex. Absent: it could not be read, or is too large to be looked at. */
  readonly sha256?: string | undefined;
  /** Its content, byte for byte; only where it is asked for, and is UTF-8. */
  readonly text?: string | undefined;
}

/** What a look found of what a loader reads and writes. */
export interface LoaderView {
  /** By path below the config directory: files of plugins, copies of them, the memory file, the settings, base and backup. */
  readonly files: ReadonlyMap<string, LoadedFile>;
  /** Directories and links: `skills/NAME`, and whatever stands in the place of one of the files. */
  readonly others: ReadonlySet<string>;
  /** The config directory with no link in its path. */
  readonly root: string;
}

/** A plugin's tree, as far as a loader reads it. */
export interface PluginContent {
  readonly name: PluginName;
  /** Hex SHA-256 by path in the tree, or {@link UNHASHED}. */
  readonly files: ReadonlyMap<string, string>;
  /** Of rules, fragments and the settings fragment; what could not be read is missing. */
  readonly texts: ReadonlyMap<string, string>;
}

/** In the place of a hash: the file is there, and could not be read or is too large. */
export const UNHASHED = '';

export const SETTINGS_FRAGMENT = 'settings-fragment.json';
/** Run at every start, and nobody knows what it does. */
export const SETUP_SCRIPT = 'setup.sh';

const NO_FRAGMENT = /^(readme|changelog|license|contributing)\.md$/i;
const RULE = /^rules\/[^/]+\.md$/;
const ROOT_MARKDOWN = /^[^/]+\.md$/;

/** Whether a loader reads what is in a file of a plugin, and does not only copy it. */
export function isReadByLoader(path: string): boolean {
  return path === SETTINGS_FRAGMENT || RULE.test(path) || (ROOT_MARKDOWN.test(path) && !NO_FRAGMENT.test(path));
}

/** Every plugin that stands in `plugins/`, whoever put it there: a loader asks nobody. */
export function contentsIn({ files }: LoaderView): readonly PluginContent[] {
  const found = new Map<string, { files: Map<string, string>; texts: Map<string, string> }>();
  for (const [path, { sha256, text }] of files) {
    const [top, name, ...rest] = path.split('/');
    if (top !== PLUGINS_DIRECTORY || name === undefined || rest.length === 0) continue;
    const content = found.get(name) ?? { files: new Map<string, string>(), texts: new Map<string, string>() };
    found.set(name, content);
    content.files.set(rest.join('/'), sha256 ?? UNHASHED);
    if (text !== undefined) content.texts.set(rest.join('/'), text);
  }
  return [...found].map(([name, content]) => ({ name: name as PluginName, ...content })).toSorted(byName);
}

/** In the order of a loader. */
export function byName(a: Pick<PluginContent, 'name'>, b: Pick<PluginContent, 'name'>): number {
  return compareBytes(a.name, b.name);
}

/** Where a file of a plugin is copied at every start, over whatever is there: the last plugin wins. */
export function overwrittenBy(path: string): string | undefined {
  const [directory, file, ...rest] = path.split('/');
  if (file === undefined || rest.length > 0) return undefined;
  if (directory === 'hooks') return `${HOOKS_DIRECTORY}/${file}`;
  return directory === 'commands' && file.endsWith('.md') ? `${COMMANDS_DIRECTORY}/${file}` : undefined;
}

/** Directories that a loader makes for what it copies of a plugin. */
export function directoriesFor({ files }: PluginContent): readonly string[] {
  const copies = [...files.keys()].map((path) => overwrittenBy(path) ?? path);
  return [HOOKS_DIRECTORY, COMMANDS_DIRECTORY, SKILLS_DIRECTORY].filter((directory) =>
    copies.some((path) => path.startsWith(`${directory}/`)),
  );
}

/** Skills of a plugin with the hashes of their files; a loader copies each whole, unless a directory of that name is there. */
export function skillsOf({ files }: PluginContent): ReadonlyMap<string, ReadonlyMap<string, string>> {
  const skills = new Map<string, Map<string, string>>();
  for (const [path, sha256] of files) {
    const [directory, skill, ...rest] = path.split('/');
    if (directory !== SKILLS_DIRECTORY || skill === undefined || rest.length === 0) continue;
    const found = skills.get(skill) ?? new Map<string, string>();
    skills.set(skill, found.set(path, sha256));
  }
  return skills;
}

/** What Python's `strip` takes away. */
const BLANKS = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+';
const OUTER_BLANKS = new RegExp(`^${BLANKS}|${BLANKS}$`, 'g');

/** A block of the memory file: a line that tells whose it is, an empty one, and what it says. No end is marked. */
export interface MemoryBlock {
  readonly marker: string;
  readonly text: string;
}

/** What a loader appends for a plugin, in its order; `undefined` where a part of it could not be read. */
export function blocksOf({ name, files, texts }: PluginContent): readonly MemoryBlock[] | undefined {
  const blocks: MemoryBlock[] = [];
  const inOrder = [...files.keys()].toSorted(compareBytes);
  for (const [kind, pattern] of [
    ['rule', RULE],
    ['fragment', ROOT_MARKDOWN],
  ] as const) {
    for (const path of inOrder) {
      if (!pattern.test(path) || !isReadByLoader(path)) continue;
      const content = texts.get(path);
      if (content === undefined) return undefined;
      const trimmed = content.replaceAll(/\r\n?/g, '\n').replaceAll(OUTER_BLANKS, '');
      if (kind === 'fragment' && trimmed === '') continue;
      const marker = `# Plugin: ${name} / ${kind}: ${path.slice(path.lastIndexOf('/') + 1)}`;
      blocks.push({ marker, text: `${marker}\n\n${trimmed}` });
    }
  }
  return blocks;
}
