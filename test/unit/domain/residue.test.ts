import { describe, expect, it } from 'vitest';

import { hexOf, sha256 } from '../../../src/domain/digest.ts';
import { contentsIn, type LoadedFile, type LoaderView } from '../../../src/domain/loader.ts';
import { residueOf, type Residue } from '../../../src/domain/residue.ts';
import type { Operation } from '../../../src/domain/transaction.ts';
import { runLoader, type Files } from '../../support/loader-model.ts';

const UID = 1000;

/** Plugins as they are found in the wild, each with a next version. */
const handler = (command: string, matcher = 'Bash'): unknown => ({ matcher, hooks: [{ type: 'command', command }] });
const fragment = (content: unknown): string => JSON.stringify(content);
const PLUGINS: Readonly<Record<string, readonly Readonly<Record<string, string>>[]>> = {
  alpha: [
    {
      'rules/style.md': 'Be brief.\n\nVery brief.\n',
      'skills/shared/SKILL.md': 'shared\n',
      'skills/alpha/SKILL.md': 'alpha one\n',
      'hooks/_lib.py': 'lib\n',
      'hooks/guard.sh': 'guard one\n',
      'commands/go.md': 'go\n',
      'settings-fragment.json': fragment({
        hooks: { PreToolUse: [handler('bash ${CLAUDE_DIR}/hooks/guard.sh')] },
        mcpServers: { search: { command: 'search' } },
      }),
    },
    {
      'rules/style.md': 'Be brief.\n\nVery brief, please.\n',
      'rules/tone.md': 'Be kind.\n',
      'skills/shared/SKILL.md': 'shared\n',
      'skills/alpha/SKILL.md': 'alpha two\n',
      'skills/alpha/deep/more.md': 'more\n',
      'hooks/_lib.py': 'lib\n',
      'hooks/guard.sh': 'guard two\n',
      'settings-fragment.json': fragment({
        hooks: { PreToolUse: [handler('bash ${CLAUDE_DIR}/hooks/guard.sh', 'Edit')] },
        mcpServers: { search: { command: 'search', args: ['--new'] } },
      }),
    },
  ],
  beta: [
    {
      'NOTES.md': 'A fragment.\n',
      'README.md': 'no fragment\n',
      'skills/shared/SKILL.md': 'shared\n',
      'hooks/_lib.py': 'lib\n',
      'settings-fragment.json': fragment({
        hooks: { PreToolUse: [handler('bash ${CLAUDE_DIR}/hooks/guard.sh')], Stop: [handler('bye', '')] },
        mcpServers: { search: { command: 'search' }, other: { command: 'other' } },
        theme: 'dark',
      }),
    },
    { 'NOTES.md': 'Another fragment.\n', 'skills/shared/SKILL.md': 'shared by beta\n', 'hooks/_lib.py': 'lib\n' },
  ],
  gamma: [
    {
      'rules/a.md': 'A\n\n\nB\n',
      'rules/b.md': '',
      'skills/shared/SKILL.md': 'gamma\n',
      'hooks/_lib.py': 'other lib\n',
    },
    { 'setup.sh': 'true\n' },
  ],
};

/** A config directory in memory: plugins are put there, loaded and taken away. */
class Workspace {
  readonly files: Files;
  left: Residue['left'] = [];

  constructor(files: Readonly<Record<string, string>>) {
    this.files = new Map(Object.entries(files));
  }

  start(): void {
    runLoader(this.files, '/configs');
  }

  install(name: string, version = 0): void {
    this.#change(name, PLUGINS[name]?.[version]);
  }

  remove(name: string): void {
    this.#change(name, undefined);
  }

  /** Everything but plugins and what plugset keeps for itself. */
  get plain(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.files].filter(([path]) => !/^(plugins|\.plugset)\//.test(path)));
  }

  /** What lies in `.plugset/base/`. */
  get saved(): readonly string[] {
    return [...this.files.keys()].filter((path) => path.startsWith('.plugset/base/'));
  }

  #change(name: string, tree: Readonly<Record<string, string>> | undefined): void {
    const view = this.#view();
    const before = contentsIn(view);
    const prefix = `plugins/${name}/`;
    for (const path of this.files.keys()) if (path.startsWith(prefix)) this.files.delete(path);
    for (const [path, content] of Object.entries(tree ?? {})) this.files.set(prefix + path, content);
    const after = contentsIn(this.#view());
    const input = { view, memoryFile: 'CLAUDE.md', configDir: '/configs', uid: UID, before, after };
    const residue = residueOf(input);
    this.left = residue.left;
    carryOut(residue.operations, this.files);
  }

  #view(): LoaderView {
    const files = new Map(
      [...this.files].map(([path, text]): [string, LoadedFile] => [
        path,
        { uid: UID, mode: 0o644, sha256: hexOf(sha256(text)), text },
      ]),
    );
    const skills = [...this.files.keys()].flatMap((path) => /^skills\/[^/]+/.exec(path)?.[0] ?? []);
    return { files, others: new Set(skills), root: '/configs' };
  }
}

/** Everything is expected to be as it was seen; copies are made before anything is changed. */
function carryOut(operations: readonly Operation[], files: Files): void {
  const writes = new Map<string, string | undefined>();
  for (const operation of operations) {
    if (!('path' in operation) || operation.kind === 'remove-directory') continue;
    const { path } = operation;
    const found = files.get(path);
    if ('expect' in operation) {
      const expected = operation.expect.kind === 'sha256' ? operation.expect.sha256 : undefined;
      expect(found === undefined ? undefined : hexOf(sha256(found)), path).toBe(expected);
    }
    if (operation.kind === 'put-file') writes.set(path, Buffer.from(operation.content).toString());
    if (operation.kind === 'remove-file') writes.set(path, undefined);
    if (operation.kind === 'copy-file') {
      const content = files.get(operation.from) ?? '';
      expect(hexOf(sha256(content)), operation.from).toBe(operation.sha256);
      writes.set(path, content);
    }
    if (operation.kind === 'save-file') {
      const isDirectory = [...files.keys()].some((one) => one.startsWith(`${path}/`));
      writes.set(`.plugset/base/${path}`, found ?? (isDirectory ? '' : undefined));
    }
  }
  for (const [path, content] of writes)
    if (content === undefined) files.delete(path);
    else files.set(path, content);
}

const USERS = {
  'CLAUDE.md': 'My own words,\n\nwithout an end of the last line',
  '.claude/settings.json': '{"mcpServers": {"search": {"command": "mine"}},\n "theme": "light"}',
  '.claude/hooks/guard.sh': 'my guard\n',
  'skills/shared/SKILL.md': 'shared\n',
};
const STARTS: readonly (readonly [string, Readonly<Record<string, string>>])[] = [
  ['an empty workspace', {}],
  ["a user's workspace", USERS],
];

const NAMES = Object.keys(PLUGINS);
const PAIRS = NAMES.flatMap((one) => NAMES.filter((other) => other !== one).map((other) => [one, other] as const));

describe.each(STARTS)('residue in %s', (_, start) => {
  it.each(PAIRS)(
    'of %s and %s: what the other brings stays, and in the end everything is as before',
    (first, second) => {
      const workspace = new Workspace(start);
      workspace.install(first);
      workspace.start();
      workspace.install(second);
      workspace.start();
      workspace.remove(first);
      const alone = new Workspace(start);
      alone.install(second);
      alone.start();
      expect(meaning(workspace.plain)).toEqual(meaning(alone.plain));
      workspace.start();
      workspace.remove(second);
      expect(workspace.plain).toEqual(start);
      expect(workspace.saved).toEqual([]);
    },
  );

  it.each(NAMES)('an upgrade of %s ends where its next version alone would', (name) => {
    const workspace = new Workspace(start);
    workspace.install(name);
    workspace.start();
    workspace.install(name, 1);
    workspace.start();
    const alone = new Workspace(start);
    alone.install(name, 1);
    alone.start();
    expect(meaning(workspace.plain)).toEqual(meaning(alone.plain));
    workspace.remove(name);
    expect(workspace.plain).toEqual(start);
  });

  it.each(seeds())('after any sequence everything is as before (%i)', (seed) => {
    const random = generator(seed);
    const workspace = new Workspace(start);
    const installed = new Set<string>();
    for (let step = 0; step < 12; step++) {
      const name = NAMES[Math.floor(random() * NAMES.length)] ?? '';
      const choice = random();
      if (choice < 0.4) workspace.start();
      else if (choice < 0.75) {
        installed.add(name);
        workspace.install(name, random() < 0.5 ? 0 : 1);
      } else if (installed.delete(name)) workspace.remove(name);
    }
    for (const name of installed) workspace.remove(name);
    expect(workspace.plain).toEqual(start);
    expect(workspace.left.filter(({ path }) => !path.endsWith('setup.sh'))).toEqual([]);
    expect(workspace.saved).toEqual([]);
  });

  it.each(seeds())(
    'after any sequence with edits by the user everything is as before, and his edits are there (%i)',
    (seed) => {
      const random = generator(seed);
      const workspace = new Workspace(start);
      const installed = new Set<string>();
      const edits = new Edits(workspace.files, start);
      for (let step = 0; step < 16; step++) {
        const name = NAMES[Math.floor(random() * NAMES.length)] ?? '';
        const choice = random();
        if (choice < 0.3) workspace.start();
        else if (choice < 0.55) {
          installed.add(name);
          workspace.install(name, random() < 0.5 ? 0 : 1);
        } else if (choice < 0.75) edits.make(random);
        else if (installed.delete(name)) workspace.remove(name);
      }
      for (const name of installed) workspace.remove(name);
      const { 'CLAUDE.md': memory = '', '.claude/settings.json': settings, ...files } = workspace.plain;
      expect(files).toEqual(edits.files);
      expect(settings === undefined ? undefined : JSON.parse(settings)).toEqual(edits.settings);
      expect(memory.split('\n').filter((line) => line !== '')).toEqual(edits.memory);
    },
  );
});

/** What a user does to files that a loader writes to as well, and what of them is his. */
class Edits {
  readonly memory: string[];
  readonly files: Record<string, string>;
  settings: Record<string, unknown> | undefined;
  readonly #workspace: Files;
  #count = 0;

  constructor(workspace: Files, start: Readonly<Record<string, string>>) {
    const { 'CLAUDE.md': memory = '', '.claude/settings.json': settings, ...files } = start;
    this.memory = memory.split('\n').filter((line) => line !== '');
    this.settings = settings === undefined ? undefined : (JSON.parse(settings) as Record<string, unknown>);
    this.files = { ...files };
    this.#workspace = workspace;
  }

  make(random: () => number): void {
    const id = `own ${++this.#count}`;
    const choice = random();
    const memory = this.#workspace.get('CLAUDE.md') ?? '';
    if (choice < 0.3) {
      this.#workspace.set('CLAUDE.md', `${memory}${memory === '' || memory.endsWith('\n') ? '' : '\n'}${id}\n`);
      this.memory.push(id);
    } else if (choice < 0.5) {
      this.#workspace.set('CLAUDE.md', `${id}\n\n${memory}`);
      this.memory.unshift(id);
    } else if (choice < 0.8) {
      const text = this.#workspace.get('.claude/settings.json') ?? '{}';
      this.#workspace.set(
        '.claude/settings.json',
        JSON.stringify({ ...(JSON.parse(text) as object), [id]: this.#count }),
      );
      this.settings = { ...this.settings, [id]: this.#count };
    } else {
      const path = choice < 0.9 ? `.claude/hooks/${id}.sh` : `skills/${id}/SKILL.md`;
      this.#workspace.set(path, id);
      this.files[path] = id;
    }
  }
}

function seeds(): readonly number[] {
  return Array.from({ length: 150 }, (_, index) => index);
}

function generator(seed: number): () => number {
  let state = seed + 1;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state / 2_147_483_648;
  };
}

/** Larger than what is looked at. */
const UNREAD: LoadedFile = { uid: UID, mode: 0o644 };

describe('residue', () => {
  const view = (files: Readonly<Record<string, string>>, uid = UID): LoaderView => ({
    files: new Map(
      Object.entries(files).map(([path, text]) => [path, { uid, mode: 0o600, sha256: hexOf(sha256(text)), text }]),
    ),
    others: new Set(['skills/blank', 'skills/ blank ']),
    root: '/configs',
  });
  const removal = (files: Readonly<Record<string, string>>, uid = UID): Residue => {
    const seen = view(files, uid);
    const common = { memoryFile: 'CLAUDE.md', configDir: '/configs', uid: UID };
    return residueOf({ view: seen, before: contentsIn(seen), after: [], ...common });
  };

  it('leaves what no operation can name, and says so', () => {
    const { operations, left } = removal({
      'plugins/p/skills/blank/x ': 'x',
      'plugins/p/skills/ blank /x': 'x',
      'plugins/p/hooks/h ': 'h',
      'skills/blank/x ': 'x',
      'skills/ blank /x': 'x',
      '.claude/hooks/h ': 'h',
    });
    expect(left.map(({ path }) => path)).toEqual(['.claude/hooks/h ', 'skills/blank/x ', 'skills/ blank ']);
    expect(operations.filter(({ kind }) => kind !== 'remove-directory')).toEqual([]);
  });

  it('leaves what belongs to somebody else, what is no JSON and what would lose digits, and says so', () => {
    const fragmentFile = { 'plugins/p/settings-fragment.json': '{"a":{"b":1}}' };
    const hooked = { 'plugins/p/hooks/h': 'h', '.claude/hooks/h': 'h' };
    expect(removal(hooked, 0)).toMatchObject({
      left: [{ path: '.claude/hooks/h', why: 'it belongs to another user' }],
    });
    for (const settings of ['{', '[]', '{"a":{"b":1},"n":12345678901234567890}']) {
      const { changes, left } = removal({ ...fragmentFile, '.claude/settings.json': settings });
      expect(changes).toEqual([]);
      expect(left.map(({ path }) => path)).toEqual(['.claude/settings.json']);
    }
  });

  it('takes nothing out that a plugin may bring whose settings or files cannot be read', () => {
    const seen = view({
      'plugins/p/settings-fragment.json': '{"a":{"b":1}}',
      'plugins/p/hooks/h': 'h',
      'plugins/q/settings-fragment.json': '{"a":{"b":1}}',
      'plugins/q/hooks/h': 'large',
      '.claude/settings.json': '{"a":{"b":1}}',
      '.claude/hooks/h': 'h',
    });
    const files = new Map([...seen.files].map(([path, file]) => [path, path.startsWith('plugins/q/') ? UNREAD : file]));
    const before = contentsIn({ ...seen, files });
    const after = before.filter(({ name }) => name !== 'p');
    const common = { memoryFile: 'CLAUDE.md', configDir: '/configs', uid: UID };
    const { operations, left } = residueOf({ view: { ...seen, files }, before, after, ...common });
    expect(operations).toEqual([]);
    expect(left.map(({ path }) => path)).toEqual(['.claude/hooks/h', '.claude/settings.json']);
  });

  it("keeps the user's own as a backup where it cannot go back", () => {
    const base = { '.plugset/base/.claude/hooks/h': 'mine', '.plugset/base/CLAUDE.md': 'mine' };
    const seen = view({ ...base, 'plugins/p/hooks/h': 'h', 'plugins/p/rules/r.md': 'r', '.claude/hooks/h': 'other' });
    const files = new Map([...seen.files, ['CLAUDE.md', UNREAD] as const]);
    const common = { memoryFile: 'CLAUDE.md', configDir: '/configs', uid: UID };
    const { operations } = residueOf({ view: { ...seen, files }, before: contentsIn(seen), after: [], ...common });
    const copies = operations.flatMap((one) => (one.kind === 'copy-file' ? [[one.from, one.path]] : []));
    expect(copies).toEqual([
      ['.plugset/base/.claude/hooks/h', '.plugset/backup/.claude/hooks/h'],
      ['.plugset/base/CLAUDE.md', '.plugset/backup/CLAUDE.md'],
    ]);
  });

  it('tells keys and markers, and keeps the mode of a file that it edits', () => {
    const { changes, operations } = removal({
      'plugins/p/settings-fragment.json': '{"mcpServers":{"s":{"token":"hidden"}},"constructor":{"x":1}}',
      'plugins/p/rules/r.md': 'hidden',
      '.claude/settings.json': '{"mcpServers":{"s":{"token":"hidden"},"mine":{}},"constructor":{"x":1}}',
      'CLAUDE.md': 'mine\n# Plugin: p / rule: r.md\n\nhidden\nmine\n',
    });
    expect(changes).toEqual([
      { path: 'CLAUDE.md', action: 'edit', parts: ['# Plugin: p / rule: r.md'] },
      { path: '.claude/settings.json', action: 'edit', parts: ['mcpServers.s', 'constructor.x'] },
    ]);
    const puts = operations.flatMap((one) => (one.kind === 'put-file' ? [one] : []));
    expect(puts.map(({ mode, content }) => [mode, Buffer.from(content).toString()])).toEqual([
      [0o600, 'mine\nmine\n'],
      [0o600, '{\n  "mcpServers": {\n    "mine": {}\n  }\n}\n'],
    ]);
  });
});

/** Order in the memory file and in the settings is that of the starts. */
function meaning(files: Readonly<Record<string, string>>): unknown {
  return Object.fromEntries(
    Object.entries(files).map(([path, text]) => [
      path,
      path.endsWith('.json') ? JSON.parse(text) : path === 'CLAUDE.md' ? text.split('\n').toSorted() : text,
    ]),
  );
}
