import { existsSync } from 'node:fs';
import { lstat, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { PluginStatus } from '../../src/domain/status.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

const NAME = 'box';
const FILE = 'plugin-settings/tool.json';
const MANIFEST = `name: another-name
contributes:
  configuration:
    properties:
      poll_seconds: {type: integer, minimum: 1}
      mode: {enum: [fast, slow]}
      token: {type: string}
    required: [mode]
`;
const SECRET = 'hunter2-the-token';

/** From `config` in a declaration to the file that a runtime reads, on a directory. */
describe('settings of a plugin', () => {
  let plugset: Plugset;
  let root: string;
  let secretFile: string;

  beforeEach(async () => {
    const secrets: { file: string }[] = [];
    plugset = await startPlugset({ store: { kind: 'files' }, config: { secrets, resolveIntervalMs: 200 } });
    root = join(plugset.dirs.root, NAME);
    secretFile = join(plugset.dirs.root, 'token');
    secrets.push({ file: secretFile });
    await writePlugin(join(plugset.dirs.registry, 'tool'), { 'plugin.yaml': MANIFEST, 'SKILL.md': 'a tool\n' });
    await writePlugin(join(plugset.dirs.registry, 'other'), { 'SKILL.md': 'another\n' });
    await mkdir(root, { recursive: true });
  });
  afterEach(() => plugset.stop());

  interface Declared {
    readonly name: string;
    readonly config?: Readonly<Record<string, unknown>>;
  }
  const apply = (plugins: readonly Declared[], policy = {}): Promise<unknown> =>
    plugset.app.store.apply(
      {
        apiVersion: 'plugset.dev/v1alpha1',
        kind: 'Workspace',
        metadata: { name: NAME },
        spec: {
          runtime: 'claude-code',
          target: { directory: { path: root } },
          policy: { allowEmpty: true, ...policy },
          plugins: plugins.map((plugin) => ({ source: plugin.name, ...plugin })),
        },
      },
      AbortSignal.timeout(60_000),
    );
  const declare = async (...plugins: readonly Declared[]): Promise<void> => {
    await apply(plugins);
    await plugset.untilReady(NAME);
  };
  const tool = (config?: Readonly<Record<string, unknown>>): Declared => ({ name: 'tool', ...(config && { config }) });
  const row = async (name = 'tool'): Promise<PluginStatus | undefined> =>
    (await plugset.status(NAME)).plugins.find((one) => one.name === name);
  const untilRow = async (expected: Readonly<Record<string, unknown>>): Promise<void> => {
    await expect.poll(row, { timeout: 60_000, interval: 100 }).toMatchObject(expected);
  };
  const onDisk = async (): Promise<unknown> => JSON.parse(await readFile(join(root, FILE), 'utf8'));
  const put = async (text: string): Promise<void> => {
    await mkdir(join(root, 'plugin-settings'), { recursive: true });
    await writeFile(join(root, FILE), text, { mode: 0o640 });
  };

  it('come with the plugin, for its owner only and in one order, and go with it', async () => {
    await declare(tool({ poll_seconds: 30, mode: 'fast', nested: { b: 1, a: [2] } }));
    expect(await readFile(join(root, FILE), 'utf8')).toBe(
      '{\n  "mode": "fast",\n  "nested": {\n    "a": [\n      2\n    ],\n    "b": 1\n  },\n  "poll_seconds": 30\n}\n',
    );
    expect((await stat(join(root, FILE))).mode & 0o777).toBe(0o600);
    expect(await row()).toMatchObject({ state: 'Installed', reason: 'Succeeded' });
    await declare(tool());
    expect(existsSync(join(root, 'plugin-settings'))).toBe(false);
    await declare(tool({ mode: 'slow' }));
    expect(await onDisk()).toEqual({ mode: 'slow' });
    await declare();
    expect(existsSync(join(root, 'plugin-settings'))).toBe(false);
    expect(await readdir(join(root, '.plugset/settings'))).toEqual([]);
  });

  it('I-32: one key over five that a template has set is one change, and taken back it is none', async () => {
    const template = '{"mode": "slow", "poll_seconds": 5, "c": 3, "d": 4, "e": 5}';
    await put(template);
    await declare(tool({ mode: 'fast' }));
    expect(await onDisk()).toEqual({ mode: 'fast', poll_seconds: 5, c: 3, d: 4, e: 5 });
    await declare(tool({ mode: 'fast', poll_seconds: 6 }));
    expect(await onDisk()).toEqual({ mode: 'fast', poll_seconds: 6, c: 3, d: 4, e: 5 });
    await declare();
    expect(await readFile(join(root, FILE), 'utf8')).toBe(template);
    expect((await stat(join(root, FILE))).mode & 0o777).toBe(0o640);
  });

  it.each([
    ['is no JSON', 'not JSON'],
    ['is no object', '[1]'],
    ['is too large to be read', JSON.stringify({ a: 'x'.repeat(70_000) })],
  ])('I-32: nothing is written over a file that %s', async (_what, text) => {
    await put(text);
    await apply([tool({ mode: 'fast' }), { name: 'other' }]);
    await untilRow({ state: 'Failed', reason: 'ConfigNotDelivered', message: expect.stringContaining(FILE) as string });
    expect(await readFile(join(root, FILE), 'utf8')).toBe(text);
    expect(await row('other')).toMatchObject({ state: 'Installed' });
  });

  it('stay out of a directory or file that is a link, and the other plugins go on', async () => {
    const elsewhere = join(plugset.dirs.root, 'elsewhere');
    await mkdir(elsewhere);
    await symlink(elsewhere, join(root, 'plugin-settings'));
    await apply([tool({ mode: 'fast' }), { name: 'other' }]);
    await untilRow({ state: 'Failed', reason: 'ConfigNotDelivered' });
    expect(await row('other')).toMatchObject({ state: 'Installed' });
    await rm(join(root, 'plugin-settings'));
    await mkdir(join(root, 'plugin-settings'));
    await writeFile(join(elsewhere, 'users'), '{}');
    await symlink(join(elsewhere, 'users'), join(root, FILE));
    await plugset.requested(NAME);
    await untilRow({ state: 'Failed', message: expect.stringContaining('is no regular file') as string });
    expect(await readFile(join(elsewhere, 'users'), 'utf8')).toBe('{}');
    expect((await lstat(join(root, FILE))).isSymbolicLink()).toBe(true);
  });

  it('I-35: lie under the name of the directory, whatever the manifest calls the plugin', async () => {
    await declare(tool({ mode: 'fast' }));
    expect(await readdir(join(root, 'plugin-settings'))).toEqual(['tool.json']);
    expect((await row())?.message).toContain('another-name');
  });

  it('I-59: one bad key among many is dropped and named, and no value of it', async () => {
    await declare(tool({ poll_seconds: 'hunter2', mode: 'fast', x: { $ref: 'nonsense' }, fine: true }));
    expect(await onDisk()).toEqual({ mode: 'fast', fine: true });
    const told = await row();
    expect(told).toMatchObject({ state: 'Installed', reason: 'ConfigInvalid' });
    expect(told?.message).toMatch(/"poll_seconds": .*number.*; "x": \$ref must be/);
    expect(told?.message).not.toContain('hunter2');
  });

  it('say which key is missing that the manifest asks for', async () => {
    await declare(tool({ fine: true }));
    expect(await row()).toMatchObject({
      reason: 'ConfigInvalid',
      message: expect.stringContaining('"mode"') as string,
    });
  });

  it('are brought back where somebody changes or deletes them, and only told of where drift is Warn', async () => {
    await declare(tool({ mode: 'fast' }));
    await writeFile(join(root, FILE), '{"mode":"slow"}');
    await plugset.requested(NAME);
    await expect.poll(onDisk, { timeout: 60_000 }).toEqual({ mode: 'fast' });
    await rm(join(root, FILE));
    await plugset.requested(NAME);
    await expect.poll(() => existsSync(join(root, FILE)), { timeout: 60_000 }).toBe(true);
    await apply([tool({ mode: 'fast' })], { drift: 'Warn' });
    await plugset.untilReady(NAME);
    await writeFile(join(root, FILE), '{"mode":"slow"}');
    await plugset.requested(NAME);
    await untilRow({ state: 'Drifted' });
    expect(await onDisk()).toEqual({ mode: 'slow' });
  });

  it('take a secret from a file on the list, again when it is another one, and tell it to nobody', async () => {
    const config = { mode: 'fast', auth: { token: { $ref: `file:${secretFile}` } } };
    await apply([tool(config)]);
    await untilRow({
      state: 'Failed',
      reason: 'ConfigNotDelivered',
      message: expect.stringContaining('no such file') as string,
    });
    expect(existsSync(join(root, 'plugins/tool/SKILL.md'))).toBe(true);
    expect(existsSync(join(root, FILE))).toBe(false);
    await writeFile(secretFile, `${SECRET}\n`);
    await plugset.requested(NAME);
    await untilRow({ state: 'Installed', reason: 'Succeeded' });
    expect(await onDisk()).toEqual({ mode: 'fast', auth: { token: SECRET } });
    await writeFile(secretFile, 'rotated-secret-value\n');
    await plugset.requested(NAME);
    await expect.poll(onDisk, { timeout: 60_000 }).toEqual({ mode: 'fast', auth: { token: 'rotated-secret-value' } });
    await rm(secretFile);
    await plugset.requested(NAME);
    await untilRow({ state: 'Failed', reason: 'ConfigNotDelivered' });
    expect(await onDisk()).toEqual({ mode: 'fast', auth: { token: 'rotated-secret-value' } });
    const told = JSON.stringify([await plugset.status(NAME), plugset.logger.lines]);
    expect(told).not.toContain(SECRET);
    expect(told).not.toContain('rotated-secret-value');
  });

  it('have no way to what the operator has not put on the list', async () => {
    const other = join(plugset.dirs.root, 'other');
    await writeFile(other, SECRET);
    await apply([tool({ a: { $ref: `file:${other}` } })]);
    await untilRow({
      state: 'Failed',
      reason: 'ConfigNotDelivered',
      message: expect.stringContaining("operator's list") as string,
    });
    await apply([tool({ a: { $ref: 'env:PATH' } })]);
    await untilRow({ state: 'Failed', message: expect.stringContaining('env:PATH') as string });
    await apply([tool({ a: { $ref: 'secret:some/key' } })]);
    await untilRow({ state: 'Failed', message: expect.stringContaining('declared in Kubernetes') as string });
    expect(existsSync(join(root, FILE))).toBe(false);
  });

  it("leave a user's own file alone while nothing is declared", async () => {
    await put('{"mine": 1}');
    await declare(tool());
    await declare();
    expect(await readFile(join(root, FILE), 'utf8')).toBe('{"mine": 1}');
  });
});
