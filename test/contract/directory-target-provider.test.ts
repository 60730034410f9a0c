import { mkdir, rename, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { DirectoryTargetProvider } from '../../src/adapters/directory/directory-target-provider.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import type { WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { tempDir } from '../support/temp-dir.ts';
import { workspaceAt } from '../support/workspaces.ts';

const signal = new AbortController().signal;

function locate(roots: readonly string[], path: string): Promise<WorkspaceTarget> {
  return providerOf(roots).locate(workspaceAt({ directory: { path } }), signal);
}

function providerOf(roots: readonly string[]): DirectoryTargetProvider {
  return new DirectoryTargetProvider({
    roots: roots.map((path) => ({ path })),
    path: '/usr/bin:/bin',
    clock: new SystemClock(),
  });
}

describe('DirectoryTargetProvider', () => {
  test('finds a directory below a root, however the path is written', async () => {
    const root = await tempDir();
    await mkdir(join(root, 'a/alice'), { recursive: true });
    const plain = await locate([root], `${root}/a/alice`);
    expect((await locate([`${root}/`], `${root}/./a//b/../alice/`)).identity).toBe(plain.identity);
    expect(plain.description).toBe(`directory ${root}/a/alice`);
    expect(providerOf([root]).addresses(workspaceAt({ directory: { path: `${root}/a//alice/` } }))).toEqual([
      `directory:${root}/a/alice`,
    ]);
  });

  test('keeps to the namespaces that a root is for', async () => {
    const root = await tempDir();
    await mkdir(join(root, 'alice'));
    const options = { path: '/usr/bin:/bin', clock: new SystemClock() };
    const at = (namespaces: readonly string[]) =>
      new DirectoryTargetProvider({ ...options, roots: [{ path: root, namespaces }] }).locate(
        workspaceAt({ directory: { path: join(root, 'alice') } }),
        signal,
      );
    await expect(at(['team-b'])).rejects.toMatchObject({ reason: 'TargetNotAllowed' });
    expect((await at(['team-b', 'team-a'])).description).toBe(`directory ${root}/alice`);
  });

  test('takes a root that is a link for what it points to', async () => {
    const root = await tempDir();
    await mkdir(join(root, 'data/alice'), { recursive: true });
    await symlink(join(root, 'data'), join(root, 'srv'));
    const real = await locate([join(root, 'srv')], join(root, 'data/alice'));
    expect((await locate([join(root, 'srv')], join(root, 'srv/alice'))).identity).toBe(real.identity);
  });

  test('refuses what is not below a root, without saying what is there', async () => {
    const root = await tempDir();
    const allowed = join(root, 'allowed');
    await mkdir(join(root, 'allowed-not/alice'), { recursive: true });
    await mkdir(allowed);
    for (const path of [
      join(root, 'allowed-not/alice'),
      join(root, 'nothing'),
      allowed,
      root,
      '/',
      `${allowed}/../allowed-not/alice`,
    ]) {
      await expect(locate([allowed], path)).rejects.toMatchObject({ class: 'terminal', reason: 'TargetNotAllowed' });
    }
    await expect(locate([], allowed)).rejects.toMatchObject({ class: 'terminal', reason: 'TargetNotAllowed' });
  });

  test('refuses a way out through a link above the directory', async () => {
    const root = await tempDir();
    await mkdir(join(root, 'allowed'));
    await mkdir(join(root, 'elsewhere/alice'), { recursive: true });
    await symlink(join(root, 'elsewhere'), join(root, 'allowed/out'));
    await expect(locate([join(root, 'allowed')], join(root, 'allowed/out/alice'))).rejects.toMatchObject({
      class: 'terminal',
      reason: 'TargetNotAllowed',
    });
  });

  test('refuses a link and a file in the place of the directory', async () => {
    const root = await tempDir();
    await mkdir(join(root, 'real'));
    await symlink(join(root, 'real'), join(root, 'link'));
    await writeFile(join(root, 'file'), '');
    for (const path of [join(root, 'link'), join(root, 'file'), join(root, 'file/alice')]) {
      await expect(locate([root], path)).rejects.toMatchObject({ class: 'terminal', reason: 'UnsafePath' });
    }
  });

  test('waits for a directory that does not exist', async () => {
    const root = await tempDir();
    await expect(locate([root], join(root, 'a/b'))).rejects.toMatchObject({
      class: 'waiting',
      reason: 'WorkspaceNotFound',
    });
    await expect(locate([join(root, 'no-root')], join(root, 'no-root/a'))).rejects.toMatchObject({
      reason: 'WorkspaceNotFound',
    });
  });

  test('tells a directory that was put in the place of another', async () => {
    const root = await tempDir();
    await mkdir(join(root, 'alice'));
    await mkdir(join(root, 'other'));
    const before = await locate([root], join(root, 'alice'));
    const token = await before.probe('.', signal);
    await rename(join(root, 'alice'), join(root, 'old'));
    await rename(join(root, 'other'), join(root, 'alice'));
    const after = await locate([root], join(root, 'alice'));
    expect(after.identity).not.toBe(before.identity);
    expect(await after.probe('.', signal)).not.toEqual(token);
  });

  test('runs nothing in a directory that took the place of the one it located', async () => {
    const root = await tempDir();
    const [alice, bob] = [join(root, 'home/alice'), join(root, 'home/bob')];
    for (const path of [alice, bob]) await mkdir(path, { recursive: true });
    const target = await locate([root], alice);
    const run = () => target.run(['pwd'], { as: 'observer', deadlineMs: 60_000, signal });
    await rename(alice, join(root, 'old'));
    await symlink(bob, alice);
    await expect(run()).rejects.toMatchObject({ class: 'transient', reason: 'TargetMoved' });
    await unlink(alice);
    await expect(run()).rejects.toMatchObject({ class: 'waiting', reason: 'WorkspaceNotFound' });
    // Its parent is a link now: the path itself looks as it should.
    await rename(join(root, 'home'), join(root, 'attic'));
    await mkdir(join(root, 'elsewhere/alice'), { recursive: true });
    await symlink(join(root, 'elsewhere'), join(root, 'home'));
    await expect(run()).rejects.toMatchObject({ class: 'transient', reason: 'TargetMoved' });
  });

  test('runs nothing as somebody whom this process cannot become', async () => {
    const root = await tempDir();
    await mkdir(join(root, 'alice'));
    const target = await locate([root], join(root, 'alice'));
    const uid = process.geteuid?.() ?? 0;
    const other = uid === 0 ? 1000 : uid;
    process.seteuid?.(other);
    try {
      const refusal = { class: 'terminal', reason: 'PermissionDenied' };
      await expect(
        target.run(['true'], { as: { uid: other + 1, gid: 0 }, deadlineMs: 60_000, signal }),
      ).rejects.toMatchObject(refusal);
    } finally {
      process.seteuid?.(uid);
    }
  });

  test('gives commands an environment of its own making', async () => {
    const root = await tempDir();
    await mkdir(join(root, 'alice'));
    const target = await locate([root], join(root, 'alice'));
    const result = await target.run(['env'], { as: 'observer', deadlineMs: 60_000, signal });
    const names = result.kind === 'exited' ? result.stdout.toString().split('\n').filter(Boolean) : [];
    expect(names.toSorted()).toEqual(['LANG=C', 'PATH=/usr/bin:/bin']);
  });
});
