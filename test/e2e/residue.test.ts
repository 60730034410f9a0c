import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { Preview } from '../../src/app.ts';
import { parseWorkspaceKey } from '../../src/domain/name.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { ScriptedPluginHost } from '../../src/plugins/plugin-host.ts';
import type { PluginHost } from '../../src/ports/plugin-host.ts';
import { plainTree, startRuntime, writeTree } from '../support/loader-on-disk.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

const NAME = 'box';

const handler = (command: string): unknown => ({ matcher: 'Bash', hooks: [{ type: 'command', command }] });
const SETTINGS = {
  hooks: { PreToolUse: [handler('bash ${CLAUDE_DIR}/hooks/guard.sh')] },
  mcpServers: { search: { command: 'search' } },
};
const ONE = {
  'plugin.yaml': 'name: one\n',
  'rules/style.md': 'Be brief.\n\nVery brief.\n',
  'skills/shared/SKILL.md': 'shared\n',
  'skills/with blank/a b.md': 'blank\n',
  'hooks/_lib.py': 'lib\n',
  'hooks/guard.sh': '#!/bin/sh\n',
  'commands/go.md': 'go\n',
  'settings-fragment.json': JSON.stringify(SETTINGS),
};
const TWO = {
  'NOTES.md': 'A fragment.\n',
  'skills/shared/SKILL.md': 'shared\n',
  'hooks/_lib.py': 'lib\n',
  'settings-fragment.json': JSON.stringify({ mcpServers: SETTINGS.mcpServers, theme: 'dark' }),
  'setup.sh': 'true\n',
};
const USERS = {
  'CLAUDE.md': 'My own words,\n\nwithout an end of the last line',
  '.claude/settings.json': '{"mcpServers": {"mine": {"command": "mine"}}}',
  '.claude/hooks/guard.sh': 'my guard\n',
};

/** From a declaration that changes to the bytes in the directory of a runtime that has a loader. */
describe('residue', () => {
  let plugset: Plugset;
  let root: string;
  let host: CountingHost;

  beforeEach(async () => {
    host = new CountingHost();
    plugset = await startPlugset({
      store: { kind: 'files' },
      parts: { host },
      config: {
        profiles: BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0, memoryFile: 'CLAUDE.md' })),
        resolveIntervalMs: 200,
      },
    });
    root = join(plugset.dirs.root, NAME);
    await writePlugin(join(plugset.dirs.registry, 'one'), ONE);
    await writePlugin(join(plugset.dirs.registry, 'two'), TWO);
  });
  afterEach(() => plugset.stop());

  const apply = (policy: object, plugins: readonly string[]): Promise<unknown> =>
    plugset.app.store.apply(
      {
        apiVersion: 'plugset.dev/v1alpha1',
        kind: 'Workspace',
        metadata: { name: NAME },
        spec: {
          runtime: 'claude-code',
          target: { directory: { path: root } },
          policy,
          plugins: plugins.map((name) => ({ name, source: name })),
        },
      },
      AbortSignal.timeout(60_000),
    );
  const declare = async (...plugins: readonly string[]): Promise<void> => {
    await apply({ allowEmpty: true }, plugins);
    await plugset.untilReady(NAME);
  };

  it.each([
    ['an empty workspace', {}],
    ["a user's workspace", USERS],
  ])('in %s: either of two goes without a trace, and then the other', async (_, users) => {
    for (const second of ['two', 'one']) {
      await writeTree(root, users);
      await declare(second);
      await startRuntime(root);
      const alone = await plainTree(root);
      await declare('one', 'two');
      await startRuntime(root);
      await declare(second);
      expect(await plainTree(root)).toEqual(alone);
      await declare();
      expect(await plainTree(root)).toEqual(users);
      expect(existsSync(join(root, 'skills'))).toBe(false);
      expect(existsSync(join(root, '.claude'))).toBe('.claude/settings.json' in users);
    }
    expect(JSON.stringify(plugset.logger.lines)).not.toContain('my guard');
  });

  it('a removal takes one run that changes five files, behind one that looks', async () => {
    await writeTree(root, {});
    await declare('one', 'two');
    await startRuntime(root);
    await plugset.requested(NAME);
    host.runs.splice(0);
    await declare('two');
    expect(host.runs).toEqual(['look', 'change']);
    expect(plugset.logger.lines.findLast(({ message }) => message.startsWith('took back'))?.fields).toMatchObject({
      changes: { length: 5 },
    });
  });

  it('a plan shows blocks and keys before they go, and no value', async () => {
    await writeTree(root, USERS);
    await declare('one', 'two');
    await startRuntime(root);
    await apply({ mode: 'Observe' }, []);
    const previews: Preview[] = [];
    const key = parseWorkspaceKey(`default/${NAME}`);
    if (key === undefined) throw new Error('no key');
    await plugset.app.preview([key], AbortSignal.timeout(60_000), (_, look) => {
      if ('kind' in look && look.kind === 'planned') previews.push(look);
    });
    expect(previews[0]?.residue).toMatchObject({
      changes: expect.arrayContaining([
        { path: '.claude/hooks/guard.sh', action: 'restore', parts: [] },
        {
          path: 'CLAUDE.md',
          action: 'edit',
          parts: ['# Plugin: one / rule: style.md', '# Plugin: two / fragment: NOTES.md'],
        },
        {
          path: '.claude/settings.json',
          action: 'edit',
          parts: ['hooks.PreToolUse[Bash]', 'mcpServers.search', 'theme'],
        },
      ]) as unknown,
      left: [expect.objectContaining({ path: 'plugins/two/setup.sh' })],
    });
  });

  it('what the user had survives that somebody deletes a tree before the next plugin comes', async () => {
    await writeTree(root, USERS);
    await declare('one');
    await startRuntime(root);
    await rm(join(root, 'plugins/one'), { recursive: true });
    await declare('one', 'two');
    await startRuntime(root);
    await declare();
    expect(await plainTree(root)).toEqual(USERS);
  });

  it('what the user has changed is left, and said', async () => {
    await writeTree(root, {});
    await declare('one', 'two');
    await startRuntime(root);
    await writeFile(join(root, '.claude/hooks/guard.sh'), 'mine now\n');
    const memory = await readFile(join(root, 'CLAUDE.md'), 'utf8');
    await writeFile(join(root, 'CLAUDE.md'), `${memory.replace('Very brief.', 'Not so brief.')}And mine.\n`);
    await declare();
    expect(await plainTree(root)).toEqual({
      '.claude/hooks/guard.sh': 'mine now\n',
      'CLAUDE.md': '# Plugin: one / rule: style.md\n\nBe brief.\n\nNot so brief.\nAnd mine.\n',
    });
    const [last] = (await plugset.status(NAME)).history;
    expect(last?.summary).toContain('left .claude/hooks/guard.sh (somebody has changed it), CLAUDE.md (');
    expect(last?.summary).toContain('plugins/two/setup.sh (it ran at each start');
    expect(await readFile(join(root, '.plugset/backup/CLAUDE.md'), 'utf8')).toContain('# Plugin: two');
  });
});

/** The two scripts, each run once a call. */
class CountingHost implements PluginHost {
  readonly runs: string[] = [];
  readonly #host = new ScriptedPluginHost();

  observe(...args: Parameters<PluginHost['observe']>): ReturnType<PluginHost['observe']> {
    this.runs.push('look');
    return this.#host.observe(...args);
  }

  converge(...args: Parameters<PluginHost['converge']>): ReturnType<PluginHost['converge']> {
    this.runs.push('change');
    return this.#host.converge(...args);
  }
}
