import { compareBytes } from '../../src/domain/digest.ts';
import { isSameData } from '../../src/domain/same-data.ts';

/** Text files by path below a config directory; directories exist only as parts of paths. */
export type Files = Map<string, string>;

/**
 * What a runtime's loader does at a start, over files in memory: the facts of `original-contract.md` section 9 once more, so
 * that they do not come from the code that is under test.
 */
export function runLoader(files: Files, root: string): void {
  const plugins = new Set([...files.keys()].flatMap((path) => /^plugins\/([^/]+)\//.exec(path)?.[1] ?? []));
  for (const plugin of [...plugins].toSorted(compareBytes)) loadPlugin(files, plugin, root);
}

function loadPlugin(files: Files, plugin: string, root: string): void {
  const prefix = `plugins/${plugin}/`;
  const tree = [...files]
    .filter(([path]) => path.startsWith(prefix))
    .map(([path, content]) => [path.slice(prefix.length), content] as const)
    .toSorted(([a], [b]) => compareBytes(a, b));
  appendBlocks(files, plugin, tree);
  const there = new Set([...files.keys()].flatMap((path) => /^skills\/([^/]+)\//.exec(path)?.[1] ?? []));
  for (const [path, content] of tree) {
    const skill = /^skills\/([^/]+)\//.exec(path)?.[1];
    if (skill !== undefined && !there.has(skill)) files.set(path, content);
    if (/^hooks\/[^/]+$/.test(path)) files.set(`.claude/${path}`, content);
    if (/^commands\/[^/]+\.md$/.test(path)) files.set(`.claude/${path}`, content);
    if (path === 'settings-fragment.json') mergeSettings(files, content, root);
  }
}

function appendBlocks(files: Files, plugin: string, tree: readonly (readonly [string, string])[]): void {
  const blocks = [
    ...tree.filter(([path]) => /^rules\/[^/]+\.md$/.test(path)).map(([path, text]) => ['rule', path.slice(6), text]),
    ...tree
      .filter(([path, text]) => /^[^/]+\.md$/.test(path) && !/^readme\.md$/i.test(path) && text.trim() !== '')
      .map(([path, text]) => ['fragment', path, text]),
  ].map(([kind, file, text]) => `# Plugin: ${plugin} / ${kind}: ${file}\n\n${text?.trim()}`);
  const [first] = blocks;
  const memory = files.get('CLAUDE.md') ?? '';
  if (first === undefined || memory.split('\n').includes(first.split('\n')[0] ?? '')) return;
  const gap = memory === '' || memory.endsWith('\n') ? '' : '\n';
  files.set('CLAUDE.md', `${memory}${gap}${blocks.join('\n\n')}\n`);
}

type Json = Record<string, unknown>;
interface Handler {
  readonly matcher?: string;
  readonly hooks: readonly { readonly command: string }[];
}

function mergeSettings(files: Files, fragmentText: string, root: string): void {
  const fragment = JSON.parse(fragmentText) as Json;
  const settings = JSON.parse(files.get('.claude/settings.json') ?? '{}') as Json;
  for (const [key, value] of Object.entries(fragment)) {
    if (key === 'hooks') mergeHooks(settings, value as Record<string, Handler[]>, root);
    else if (!(key in settings)) settings[key] = value;
    else if (isDict(settings[key]) && isDict(value)) settings[key] = { ...settings[key], ...value };
  }
  files.set('.claude/settings.json', `${JSON.stringify(settings, null, 2)}\n`);
}

function mergeHooks(settings: Json, events: Record<string, Handler[]>, root: string): void {
  const hooks = (settings['hooks'] ??= {}) as Record<string, Handler[]>;
  for (const [event, handlers] of Object.entries(events)) {
    const there = (hooks[event] ??= []);
    for (const handler of handlers) {
      const own = JSON.parse(JSON.stringify(handler).replaceAll('${CLAUDE_DIR}', `${root}/.claude`)) as Handler;
      if (!there.some((one) => isSameData(identity(one), identity(own)))) there.push(own);
    }
  }
}

function identity({ matcher = '', hooks }: Handler): unknown {
  return [matcher, hooks.map(({ command }) => command).toSorted()];
}

function isDict(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
