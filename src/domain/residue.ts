import {
  BACKUP_DIRECTORY,
  BASE_DIRECTORY,
  blocksOf,
  byName,
  directoriesFor,
  LOADER_DIRECTORY,
  overwrittenBy,
  SETTINGS_FILE,
  SETTINGS_FRAGMENT,
  SETUP_SCRIPT,
  SKILLS_DIRECTORY,
  skillsOf,
  UNHASHED,
  type LoadedFile,
  type LoaderView,
  type MemoryBlock,
  type PluginContent,
} from './loader.ts';
import { PLUGINS_DIRECTORY } from './layout.ts';
import { replaceBlocks } from './memory-blocks.ts';
import { isSameData } from './same-data.ts';
import { parseSettings, printSettings, withoutFragments, type JsonObject } from './settings-fragments.ts';
import { isPlainPath, type Expectation, type Operation } from './transaction.ts';

/** What is seen before a change, and which plugins stand there before it and after it. */
export interface ResidueInput {
  readonly view: LoaderView;
  /** Path of the memory file below the config directory. */
  readonly memoryFile: string;
  /** Config directory as the runtime calls it. */
  readonly configDir: string;
  /** Who writes: a file of anybody else is left. */
  readonly uid: number;
  readonly before: readonly PluginContent[];
  readonly after: readonly PluginContent[];
}

/** One file that is edited, and what of it: markers of blocks, paths of keys; never a value. */
export interface ResidueChange {
  readonly path: string;
  readonly action: 'edit' | 'remove' | 'restore' | 'update';
  readonly parts: readonly string[];
}

/** Something that a plugin brought and that stays, or that is not known. */
export interface ResidueLeft {
  readonly path: string;
  readonly why: string;
}

export interface Residue {
  readonly operations: readonly Operation[];
  readonly changes: readonly ResidueChange[];
  readonly left: readonly ResidueLeft[];
}

/**
 * What it takes besides moving trees for a change of plugins to leave nothing behind that a loader made of those before it:
 * nothing but what is still as it was brought is touched. Before a loader comes by for the first time, what it may
 * overwrite is saved. What new plugins bring is the loader's to add at its next start, but for copies of files that it
 * would not renew.
 */
export function residueOf(input: ResidueInput): Residue {
  const editor = new ResidueEditor(input);
  editor.editOverwritten();
  editor.editSkills();
  editor.editMemory();
  editor.editSettings();
  editor.reportScripts();
  editor.removeEmptyDirectories();
  return editor;
}

const CHANGED = 'somebody has changed it';
const UNREADABLE = 'it cannot be read, or is too large';
const SEES_NOT = 'it is a link, or no regular file';
const FOREIGN = 'it belongs to another user';

class ResidueEditor implements Residue {
  readonly operations: Operation[] = [];
  readonly changes: ResidueChange[] = [];
  readonly left: ResidueLeft[] = [];
  readonly #input: ResidueInput;
  readonly #before: readonly PluginContent[];
  readonly #after: readonly PluginContent[];

  constructor(input: ResidueInput) {
    this.#input = input;
    this.#before = input.before.toSorted(byName);
    this.#after = input.after.toSorted(byName);
  }

  /** Hooks and commands: the last plugin has overwritten what the others and the user had there. */
  editOverwritten(): void {
    const [before, after] = [copiesOf(this.#before), copiesOf(this.#after)];
    for (const path of new Set([...before.keys(), ...after.keys()])) {
      const [old, young] = [before.get(path) ?? [], after.get(path) ?? []];
      if (isSameData(old, young) || !this.#isNameable(path)) continue;
      if (old.length === 0) this.#save(path);
      else this.#editCopy(path, old, young.at(-1));
    }
  }

  #editCopy(path: string, old: readonly Copy[], winner: Copy | undefined): void {
    const found = this.#file(path);
    const base = this.#base(path);
    const isTheirs = found !== undefined && old.some(({ sha256 }) => sha256 === found.sha256);
    if (found !== undefined && found.sha256 !== winner?.sha256) {
      const isUsers = found.sha256 !== undefined && found.sha256 === base?.sha256;
      if (isTheirs && !isUsers) this.#replace(path, found, winner ?? this.#copyOfBase(path), winner !== undefined);
      else if (!isUsers) this.#leave(path, found.sha256 === undefined ? UNREADABLE : CHANGED);
    }
    if (winner === undefined) this.#dropBase(path);
  }

  #copyOfBase(path: string): Copy | undefined {
    const base = this.#base(path);
    return base?.sha256 === undefined ? undefined : { source: `${BASE_DIRECTORY}/${path}`, sha256: base.sha256 };
  }

  #replace(path: string, found: LoadedFile, by: Copy | undefined, isUpdate: boolean): void {
    if (!this.#isOurs(path, found)) return;
    if (by?.sha256 === UNHASHED) {
      this.#leave(path, `what comes in its place cannot be read: ${by.source}`);
      return;
    }
    const expect = expectationOf(found);
    if (by === undefined) this.operations.push({ kind: 'remove-file', path, expect });
    else this.operations.push({ kind: 'copy-file', path, expect, from: by.source, sha256: by.sha256 });
    const action = by === undefined ? 'remove' : isUpdate ? 'update' : 'restore';
    this.changes.push({ path, action, parts: [] });
  }

  /** A loader copies a skill once, and never over another one. */
  editSkills(): void {
    const [before, after] = [this.#before, this.#after].map((plugins) =>
      plugins.map((plugin) => ({ name: plugin.name, skills: skillsOf(plugin) })),
    );
    const skills = [...(before ?? []), ...(after ?? [])].flatMap((one) => [...one.skills.keys()]);
    for (const skill of new Set(skills)) {
      const having = (plugins: typeof before): readonly SkillTree[] =>
        (plugins ?? []).flatMap(({ name, skills: all }) => {
          const files = all.get(skill);
          return files === undefined ? [] : [{ name, files }];
        });
      const [old, young] = [having(before), having(after)];
      if (isSameData(old.map(plainTree), young.map(plainTree))) continue;
      this.#editSkill(`${SKILLS_DIRECTORY}/${skill}`, old, young);
    }
  }

  #editSkill(path: string, old: readonly SkillTree[], young: readonly SkillTree[]): void {
    const { others } = this.#input.view;
    if (this.#base(path) !== undefined) {
      // The user's own, which a loader has never touched.
      if (young.length === 0) this.#dropBase(path);
      return;
    }
    if (!this.#isNameable(path)) return;
    if (old.length === 0) {
      this.#save(path);
      return;
    }
    if (!others.has(path)) return;
    const owner = this.#originOf(old);
    if (owner === undefined) {
      this.#leave(path, CHANGED);
      return;
    }
    const next = young.find(({ name }) => name === owner.name) ?? young[0];
    if (next !== undefined && isSameData(plainTree(next).files, plainTree(owner).files)) return;
    for (const file of new Set([...owner.files.keys(), ...(next?.files.keys() ?? [])])) {
      if (this.#isNameable(file)) this.#editSkillFile(file, owner, next);
    }
    if (next === undefined) this.#removeDirectories([...owner.files.keys()], path);
  }

  #editSkillFile(path: string, owner: SkillTree, next: SkillTree | undefined): void {
    const [was, is] = [owner.files.get(path), next?.files.get(path)];
    if (was === is) return;
    const found = this.#file(path);
    const source = { source: `${PLUGINS_DIRECTORY}/${next?.name}/${path}`, sha256: is ?? '' };
    if (found !== undefined && found.sha256 === is) return;
    if (found !== undefined && was !== undefined && found.sha256 === was)
      this.#replace(path, found, is === undefined ? undefined : source, true);
    else if (found !== undefined || this.#input.view.others.has(path)) this.#leave(path, CHANGED);
    else if (was === undefined && is !== undefined && is !== UNHASHED) {
      const expect: Expectation = { kind: 'absent' };
      this.operations.push({ kind: 'copy-file', path, expect, from: source.source, sha256: source.sha256 });
      this.changes.push({ path, action: 'update', parts: [] });
    }
  }

  /** Whose copy it is: nothing is written down about that, but the files tell. */
  #originOf(trees: readonly SkillTree[]): SkillTree | undefined {
    const matching = trees.map((tree) => ({
      tree,
      share: [...tree.files].filter(([path, hex]) => this.#file(path)?.sha256 === hex).length / tree.files.size,
    }));
    const best = Math.max(...matching.map(({ share }) => share));
    return best > 0 ? matching.find(({ share }) => share === best)?.tree : undefined;
  }

  editMemory(): void {
    const path = this.#input.memoryFile;
    const young = new Map(this.#after.map((plugin) => [plugin.name, blocksOf(plugin)]));
    const old = new Map(this.#before.map((plugin) => [plugin.name, blocksOf(plugin)]));
    const bring = (all: Iterable<readonly MemoryBlock[] | undefined>): boolean =>
      [...all].some((blocks) => blocks === undefined || blocks.length > 0);
    const lasts = !bring(young.values());
    if (!bring(old.values())) {
      if (lasts) this.#dropBase(path);
      else this.#save(path);
      return;
    }
    const found = this.#file(path);
    const changing = [...old].filter(([name, blocks]) => !isSameData(blocks, young.get(name)));
    if (changing.length === 0) return;
    if (found === undefined) {
      if (this.#input.view.others.has(path)) this.#leave(path, SEES_NOT);
    } else if (found.text === undefined) this.#leave(path, UNREADABLE);
    else {
      let { text } = found;
      const markers: string[] = [];
      for (const [name, blocks] of changing) {
        const edit = replaceBlocks(text, blocks ?? [], young.get(name) ?? []);
        if (blocks === undefined) this.#leave(path, `the rules of ${name} cannot be read, so its blocks are not known`);
        for (const marker of edit.left) this.#leave(path, `somebody has changed the block "${marker}"`);
        text = edit.text;
        markers.push(...edit.changed);
      }
      const base = lasts ? this.#base(path) : undefined;
      // A loader ends the last line before it appends.
      if (base?.text !== undefined && text === `${base.text}\n`) text = base.text;
      this.#put(path, found, lasts && base === undefined && text === '' ? undefined : text, markers);
    }
    if (lasts) this.#dropBase(path);
  }

  editSettings(): void {
    const [old, young] = [this.#before, this.#after].map((plugins) =>
      plugins
        .filter(({ files }) => files.has(SETTINGS_FRAGMENT))
        .map(({ name, files }) => [name, files.get(SETTINGS_FRAGMENT)]),
    );
    if (isSameData(old, young)) return;
    if (old?.length === 0) {
      this.#save(SETTINGS_FILE);
      return;
    }
    const [before, after] = [this.#fragmentsOf(this.#before), this.#fragmentsOf(this.#after)];
    // What cannot be read may bring, or go on bringing, any of the keys.
    if (before === undefined || after === undefined) return;
    const found = this.#file(SETTINGS_FILE);
    const base = this.#base(SETTINGS_FILE);
    const settings = found?.text === undefined ? undefined : parseSettings(found.text);
    if (found === undefined) {
      if (this.#input.view.others.has(SETTINGS_FILE)) this.#leave(SETTINGS_FILE, SEES_NOT);
    } else if (found.text === undefined) this.#leave(SETTINGS_FILE, UNREADABLE);
    else if (settings === undefined) this.#leave(SETTINGS_FILE, 'it is no JSON object, or has numbers of many digits');
    else {
      const { root } = this.#input.view;
      const directories = [this.#input.configDir, root].map((directory) => `${directory}/.claude`);
      const baseSettings = base?.text === undefined ? undefined : parseSettings(base.text);
      const fragments = { before, after };
      const edit = withoutFragments(settings, baseSettings, fragments, [...new Set(directories)]);
      for (const key of edit.left) this.#leave(SETTINGS_FILE, `somebody has changed ${key}`);
      const isLast = after.length === 0;
      const text = isLast ? withoutAny(edit.settings, base, baseSettings) : printSettings(edit.settings);
      if (edit.changed.length > 0 || (isLast && isSameData(baseSettings, edit.settings)))
        this.#put(SETTINGS_FILE, found, text, edit.changed);
    }
    if (after.length === 0) this.#dropBase(SETTINGS_FILE);
  }

  /** `undefined`: one of them is not known. */
  #fragmentsOf(plugins: readonly PluginContent[]): readonly JsonObject[] | undefined {
    const fragments: JsonObject[] = [];
    const bringing = plugins.filter(({ files }) => files.has(SETTINGS_FRAGMENT));
    for (const { name, texts } of bringing) {
      const fragment = parseSettings(texts.get(SETTINGS_FRAGMENT) ?? '');
      if (fragment === undefined) this.#leave(SETTINGS_FILE, `the settings of ${name} cannot be read`);
      else fragments.push(fragment);
    }
    return fragments.length === bringing.length ? fragments : undefined;
  }

  /** What a script of a plugin did nobody knows. */
  reportScripts(): void {
    const staying = new Set(this.#after.map(({ name }) => name));
    for (const { name, files } of this.#before)
      if (!staying.has(name) && files.has(SETUP_SCRIPT))
        this.#leave(`${PLUGINS_DIRECTORY}/${name}/${SETUP_SCRIPT}`, 'it ran at each start, and what it did stays');
  }

  /** What a loader has made for copies, and at each start as long as there is a plugin. */
  removeEmptyDirectories(): void {
    const needed = new Set(this.#after.flatMap(directoriesFor));
    const made = new Set(this.#before.flatMap(directoriesFor));
    for (const path of made) if (!needed.has(path)) this.operations.push({ kind: 'remove-directory', path });
    if (this.#before.length > 0 && this.#after.length === 0)
      this.operations.push({ kind: 'remove-directory', path: LOADER_DIRECTORY });
  }

  /** Those of files that go, the innermost first, as far as they are empty then. */
  #removeDirectories(files: readonly string[], top: string): void {
    const directories = new Set<string>();
    for (const file of files) {
      if (!isPlainPath(file)) continue;
      for (let at = file.lastIndexOf('/'); at >= top.length; at = file.lastIndexOf('/', at - 1))
        directories.add(file.slice(0, at));
    }
    for (const path of [...directories].toSorted((a, b) => b.length - a.length))
      this.operations.push({ kind: 'remove-directory', path });
  }

  /** The user's own, before a loader writes there for the first time. */
  #save(path: string): void {
    this.operations.push({ kind: 'save-file', path });
  }

  #put(path: string, found: LoadedFile, text: string | undefined, parts: readonly string[]): void {
    if (found.text === text || !this.#isOurs(path, found) || found.sha256 === undefined) return;
    this.#backUp(path, path, found.sha256);
    const expect = expectationOf(found);
    if (text === undefined) this.operations.push({ kind: 'remove-file', path, expect });
    else this.operations.push({ kind: 'put-file', path, expect, content: Buffer.from(text), mode: found.mode });
    this.changes.push({ path, action: text === undefined ? 'remove' : 'edit', parts });
  }

  /** Kept as a backup where something was left that stands where it belongs. */
  #dropBase(path: string): void {
    const base = this.#base(path);
    if (base?.sha256 === undefined) return;
    const from = `${BASE_DIRECTORY}/${path}`;
    const isAt = (one: { readonly path: string }): boolean => one.path === path;
    if (this.left.some(isAt) && !this.changes.some(isAt)) this.#backUp(path, from, base.sha256);
    this.operations.push({ kind: 'remove-file', path: from, expect: expectationOf(base) });
  }

  #backUp(path: string, from: string, sha256: string): void {
    const to = `${BACKUP_DIRECTORY}/${path}`;
    const kept = this.#file(to);
    if (kept !== undefined && (kept.sha256 === undefined || kept.sha256 === sha256)) return;
    this.operations.push({ kind: 'copy-file', path: to, expect: expectationOf(kept), from, sha256 });
  }

  #file(path: string): LoadedFile | undefined {
    return this.#input.view.files.get(path);
  }

  #base(path: string): LoadedFile | undefined {
    return this.#file(`${BASE_DIRECTORY}/${path}`);
  }

  #isOurs(path: string, { uid }: LoadedFile): boolean {
    if (uid === this.#input.uid) return true;
    this.#leave(path, FOREIGN);
    return false;
  }

  /** No operation can be about a name that ends in a blank. */
  #isNameable(path: string): boolean {
    if (isPlainPath(path)) return true;
    if (this.#file(path) !== undefined || this.#input.view.others.has(path))
      this.#leave(path, 'its name begins or ends with a blank');
    return false;
  }

  #leave(path: string, why: string): void {
    if (!this.left.some((one) => one.path === path && one.why === why)) this.left.push({ path, why });
  }
}

/** A file of a plugin by which something is replaced. */
interface Copy {
  readonly source: string;
  readonly sha256: string;
}

interface SkillTree {
  readonly name: string;
  /** Hashes by path below the config directory, which is the one in the tree as well. */
  readonly files: ReadonlyMap<string, string>;
}

function plainTree({ name, files }: SkillTree): { readonly name: string; readonly files: unknown } {
  return { name, files: Object.fromEntries(files) };
}

/** What overwrites each path, in the order in which it is overwritten. */
function copiesOf(plugins: readonly PluginContent[]): ReadonlyMap<string, readonly Copy[]> {
  const copies = new Map<string, Copy[]>();
  for (const { name, files } of plugins)
    for (const [path, sha256] of files) {
      const to = overwrittenBy(path);
      if (to === undefined) continue;
      copies.set(to, [...(copies.get(to) ?? []), { source: `${PLUGINS_DIRECTORY}/${name}/${path}`, sha256 }]);
    }
  return copies;
}

function expectationOf(file: LoadedFile | undefined): Expectation {
  return file?.sha256 === undefined ? { kind: 'absent' } : { kind: 'sha256', sha256: file.sha256 };
}

/** The user's own bytes, where they mean the same; `undefined`: there was no file. */
function withoutAny(
  settings: JsonObject,
  base: LoadedFile | undefined,
  baseSettings: JsonObject | undefined,
): string | undefined {
  const isEmpty = Object.keys(settings).length === 0;
  if (base === undefined) return isEmpty ? undefined : printSettings(settings);
  // A loader takes what is no JSON for nothing.
  const isBase = baseSettings === undefined ? isEmpty : isSameData(baseSettings, settings);
  return isBase && base.text !== undefined ? base.text : printSettings(settings);
}
