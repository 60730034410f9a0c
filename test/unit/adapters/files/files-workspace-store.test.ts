import { cp, mkdir, readdir, readFile, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';

import { FilesControllerState } from '../../../../src/adapters/files/files-controller-state.ts';
import { FilesLeadership } from '../../../../src/adapters/files/files-leadership.ts';
import {
  FilesWorkspaceStore,
  type FilesWorkspaceStoreOptions,
} from '../../../../src/adapters/files/files-workspace-store.ts';
import { unreadableRoot } from '../../../../src/adapters/files/unreadable-root.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import { parseWorkspaceKey, type WorkspaceKey } from '../../../../src/domain/name.ts';
import { EMPTY_STATUS } from '../../../../src/domain/status.ts';
import { REQUESTED_AT_ANNOTATION, type Workspace } from '../../../../src/domain/workspace.ts';
import type { WatchCause } from '../../../../src/ports/workspace-store.ts';
import { eventually } from '../../../support/eventually.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';
import { tempDir } from '../../../support/temp-dir.ts';

const ALICE = key('default/alice');
const BOB = key('default/bob');
const { signal } = new AbortController();

/** Much of what goes wrong here is about events, so a test may turn off what heals their loss. */
const NEVER_MS = 3_600_000;

interface Fixture {
  readonly base: string;
  readonly root: string;
  readonly state: string;
  readonly logger: RecordingLogger;
  open(options?: Partial<FilesWorkspaceStoreOptions>): FilesWorkspaceStore;
  put(path: string, text: string): Promise<void>;
}

async function fixture(): Promise<Fixture> {
  const base = await tempDir();
  const root = join(base, 'root');
  const state = join(base, 'state');
  const logger = new RecordingLogger();
  await mkdir(root);
  return {
    base,
    root,
    state,
    logger,
    open(options = {}) {
      const store = new FilesWorkspaceStore({
        directory: root,
        stateDirectory: state,
        role: 'controller',
        clock: new SystemClock(),
        logger,
        debounceMs: 20,
        pollMs: 20,
        rescanMs: NEVER_MS,
        vanishGraceMs: 50,
        ...options,
      });
      onTestFinished(() => store.close());
      return store;
    },
    async put(path, text) {
      await mkdir(dirname(join(base, path)), { recursive: true });
      await writeFile(join(base, path), text);
    },
  };
}

function yaml(name: string, plugin = 'one', policy = ''): string {
  return `apiVersion: plugset.dev/v1alpha1
kind: Workspace
metadata: {name: ${name}}
spec:
  runtime: claude-code
  target: {external: {}}
  plugins:
    - {name: ${plugin}, source: ${plugin}}
${policy}`;
}

const REMOVE = '  policy: {deletion: Remove}\n';

async function workspace(store: FilesWorkspaceStore, which: WorkspaceKey): Promise<Workspace> {
  const loaded = await store.get(which, signal);
  if (loaded.kind !== 'found') throw new Error(`${which} is ${loaded.kind}: ${store.problems().join('; ')}`);
  return loaded.workspace;
}

async function plugins(store: FilesWorkspaceStore, which: WorkspaceKey): Promise<readonly string[]> {
  return (await workspace(store, which)).plugins.map(({ name }) => name);
}

async function follow(store: FilesWorkspaceStore): Promise<{ key: WorkspaceKey; cause: WatchCause }[]> {
  const seen: { key: WorkspaceKey; cause: WatchCause }[] = [];
  await store.watch((named, cause) => void seen.push({ key: named, cause }), new AbortController().signal);
  return seen;
}

function key(text: string): WorkspaceKey {
  const parsed = parseWorkspaceKey(text);
  if (parsed === undefined) throw new Error(text);
  return parsed;
}

describe('what is read', () => {
  test('yaml and yml below the root, and nothing that an editor or git left there', async () => {
    const { open, put } = await fixture();
    await put('root/a.yaml', yaml('a'));
    await put('root/deep/er/b.yml', yaml('b'));
    const ignored = [
      '.hidden.yaml',
      '.git/c.yaml',
      '..2024/c.yaml',
      '#c.yaml',
      '.#c.yaml',
      '~c.yaml',
      'c.yaml~',
      'c.yaml.swp',
      'c.yaml.tmp',
      'c.json',
    ];
    for (const name of ignored) await put(`root/${name}`, yaml('c'));
    const store = open();
    expect((await store.list(signal)).toSorted()).toEqual(['default/a', 'default/b']);
    expect((await workspace(store, key('b'))).plugins[0]?.origin).toBe('deep/er/b.yml:8');
    expect(store.problems()).toEqual([]);
  });

  test('the same key in two documents: both are named, and only that workspace stands still', async () => {
    const { open, put } = await fixture();
    await put('root/a.yaml', `${yaml('alice')}---\n${yaml('bob')}`);
    await put('root/b.yaml', `\n${yaml('alice', 'two')}`);
    const store = open();
    expect(await store.get(ALICE, signal)).toMatchObject({
      kind: 'malformed',
      problems: ['default/alice is declared more than once: a.yaml:1 and b.yaml:2; remove all but one'],
    });
    expect(store.unreadable()).toBe(0);
    expect(await plugins(store, BOB)).toEqual(['one']);
  });

  test('a link out of the root is refused, and a loop of links ends', async () => {
    const { base, root, open, put } = await fixture();
    await put('outside/secret.yaml', yaml('alice'));
    await put('root/b.yaml', yaml('bob'));
    await symlink(join(base, 'outside/secret.yaml'), join(root, 'file.yaml'));
    await symlink(join(base, 'outside'), join(root, 'folder'));
    await symlink('.', join(root, 'self'));
    await symlink('loop.yaml', join(root, 'loop.yaml'));
    const store = open();
    expect(await store.list(signal)).toEqual([BOB]);
    expect(store.problems()).toEqual([
      'file.yaml:1:1: a symbolic link that leads out of the directory; refused',
      'folder:1:1: a symbolic link that leads out of the directory; refused',
      'loop.yaml:1:1: a symbolic link that leads nowhere',
    ]);
  });

  test('a file that is too large or no text is a problem of its own', async () => {
    const { open, put, root, logger } = await fixture();
    await put('root/a.yaml', yaml('alice'));
    await put('root/large.yaml', '#'.repeat(1024 * 1024 + 1));
    await writeFile(join(root, 'binary.yaml'), Buffer.from([0xff, 0xfe, 0x00]));
    const store = open();
    expect(await store.list(signal)).toEqual([ALICE]);
    expect(store.problems()).toEqual(['binary.yaml:1:1: not UTF-8 text', 'large.yaml:1:1: larger than 1 MiB; refused']);
    expect(store.unreadable()).toBe(2);
    await store.list(signal);
    expect(logger.at('warn').map(({ message }) => message)).toEqual(store.problems());
  });
});

describe('swaps', () => {
  test('git-sync: the root is a link that is renamed over', async () => {
    const { base, open, put } = await fixture();
    await put('v1/a.yaml', yaml('alice', 'one'));
    await put('v2/a.yaml', yaml('alice', 'two'));
    await put('v2/b.yaml', yaml('bob'));
    await symlink('v1', join(base, 'link'));
    const store = open({ directory: join(base, 'link') });
    const seen = await follow(store);
    expect(await plugins(store, ALICE)).toEqual(['one']);
    await symlink('v2', join(base, 'next'));
    await rename(join(base, 'next'), join(base, 'link'));
    await eventually(() => expect(seen.map((one) => one.key).toSorted()).toEqual([ALICE, BOB]));
    expect(await plugins(store, ALICE)).toEqual(['two']);
    // The new tree is followed, too.
    await put('v2/b.yaml', yaml('bob', 'three'));
    await eventually(async () => expect(await plugins(store, BOB)).toEqual(['three']));
  });

  test('ConfigMap: the files are links through ..data, which is renamed over', async () => {
    const { root, open, put } = await fixture();
    await put('root/..v1/a.yaml', yaml('alice', 'one'));
    await symlink('..v1', join(root, '..data'));
    await symlink('..data/a.yaml', join(root, 'a.yaml'));
    const store = open();
    await follow(store);
    expect((await workspace(store, ALICE)).plugins[0]?.origin).toBe('a.yaml:8');
    await put('root/..v2/a.yaml', yaml('alice', 'two'));
    await symlink('..v2', join(root, '..data_tmp'));
    await rename(join(root, '..data_tmp'), join(root, '..data'));
    await rm(join(root, '..v1'), { recursive: true });
    await eventually(async () => expect(await plugins(store, ALICE)).toEqual(['two']));
    expect((await workspace(store, ALICE)).generation).toBe(2);
  });

  test('a root that is deleted and made anew is followed again, and in between nothing is deleted', async () => {
    const { root, open, put, logger } = await fixture();
    await put('root/a.yaml', yaml('alice', 'one', REMOVE));
    await put('root/b.yaml', yaml('bob'));
    const store = open();
    const seen = await follow(store);
    await rm(root, { recursive: true });
    await eventually(() => expect(store.problems()).toHaveLength(1));
    expect((await store.list(signal)).toSorted()).toEqual([ALICE, BOB]);
    expect(logger.at('error')).toHaveLength(1);

    // Empty first, as a checkout begins.
    await mkdir(root);
    await eventually(() => expect(store.outdated).toContain('came back empty'));
    expect(await workspace(store, ALICE)).toMatchObject({ deleting: false });

    await put('root/a.yaml', yaml('alice', 'two', REMOVE));
    await eventually(async () => expect(await plugins(store, ALICE)).toEqual(['two']));
    expect(await workspace(store, ALICE)).toMatchObject({ deleting: false, generation: 2 });
    await eventually(() => expect(seen.map((one) => one.key)).toContain(BOB));
    seen.length = 0;
    await put('root/a.yaml', yaml('alice', 'three', REMOVE));
    // Bob, who did not come back, may be named once more when his time is up.
    await eventually(() => expect(seen.filter((one) => one.key === ALICE)).toEqual([{ key: ALICE, cause: 'edit' }]));
  });

  test('after a gap every key is named again', async () => {
    const { root, base, open, put } = await fixture();
    await put('root/a.yaml', yaml('alice'));
    await put('root/b.yaml', yaml('bob'));
    const store = open();
    const seen = await follow(store);
    seen.length = 0;
    await rename(root, join(base, 'away'));
    await eventually(() => expect(store.outdated).toContain(root));
    await writeFile(join(base, 'away/b.yaml'), yaml('bob', 'two'));
    await rename(join(base, 'away'), root);
    await eventually(() => expect(seen).toContainEqual({ key: ALICE, cause: 'relist' }));
    expect(seen).toContainEqual({ key: BOB, cause: 'edit' });
    expect(store.outdated).toBeUndefined();
  });

  test('a change without an event is found by the rescan', async () => {
    const { root, open, put } = await fixture();
    // The link in the middle stands in a directory that is not itself followed.
    await put('root/.store/v1/a.yaml', yaml('alice', 'one'));
    await put('root/.store/v2/a.yaml', yaml('alice', 'two'));
    await mkdir(join(root, '.links'));
    await symlink('../.store/v1', join(root, '.links/current'));
    await symlink('.links/current', join(root, 'sub'));
    const store = open({ rescanMs: 50 });
    await follow(store);
    expect(await plugins(store, ALICE)).toEqual(['one']);
    await symlink('../.store/v2', join(root, '.links/next'));
    await rename(join(root, '.links/next'), join(root, '.links/current'));
    await eventually(async () => expect(await plugins(store, ALICE)).toEqual(['two']));
  });
});

describe('what vanishes', () => {
  test('without a word about it the workspace is orphaned: forgotten, and said so', async () => {
    const { root, state, open, put, logger } = await fixture();
    await put('root/a.yaml', yaml('alice'));
    await put('root/b.yaml', yaml('bob'));
    const store = open();
    const seen = await follow(store);
    await rm(join(root, 'a.yaml'));
    await eventually(async () => expect(await store.get(ALICE, signal)).toEqual({ kind: 'absent' }));
    expect(await store.list(signal)).toEqual([BOB]);
    await eventually(() => expect(seen.map((one) => one.key)).toEqual([ALICE]));
    expect(logger.at('warn').at(-1)).toMatchObject({
      message: expect.stringContaining('stay'),
      fields: { workspace: ALICE },
    });
    await expect(readFile(join(state, 'workspaces/default/alice.json'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('with Remove it leaves a tombstone, also when nobody ran at the time', async () => {
    const { root, open, put } = await fixture();
    await put('root/a.yaml', yaml('alice', 'one', REMOVE));
    await put('root/b.yaml', yaml('bob'));
    const first = open();
    await first.list(signal);
    await first.close();
    await rm(join(root, 'a.yaml'));
    // Not followed: as `plugset once` does it.
    const second = open();
    expect(await second.list(signal)).toContain(ALICE);
    expect(await workspace(second, ALICE)).toMatchObject({ deleting: true, plugins: [{ name: 'one' }] });
  });

  test('all at once it is taken for a mistake, and everything is kept as it was', async () => {
    const { root, open, put, logger } = await fixture();
    await put('root/a.yaml', yaml('alice', 'one', REMOVE));
    await put('root/b.yaml', yaml('bob', 'two'));
    const store = open();
    const seen = await follow(store);
    const fence = { authority: 'us', epoch: 1, n: 1 };
    await store.writeStatus({ key: BOB, status: { ...EMPTY_STATUS, summary: '1/1' }, fence }, signal);
    expect(store.outdated).toBeUndefined();
    // As `git clean` does: the directory itself stays.
    await Promise.all(['a.yaml', 'b.yaml'].map((name) => rm(join(root, name))));
    await eventually(() => expect(store.outdated).toContain('came back empty, and 2 were declared'));
    expect((await store.list(signal)).toSorted()).toEqual([ALICE, BOB]);
    expect(await workspace(store, ALICE)).toMatchObject({ deleting: false, plugins: [{ name: 'one' }] });
    expect(await store.get(BOB, signal)).toMatchObject({ kind: 'found', status: { summary: '1/1' } });
    expect(seen).toEqual([]);
    expect(logger.at('error').map(({ message }) => message)).toEqual([expect.stringContaining('store.allowEmpty')]);

    // One that is back is enough to believe that the others are gone, once they have had their time to come, too.
    await put('root/a.yaml', yaml('alice', 'one', REMOVE));
    await eventually(async () => expect(await store.get(BOB, signal)).toEqual({ kind: 'absent' }));
    expect(store.outdated).toBeUndefined();
    expect(await workspace(store, ALICE)).toMatchObject({ deleting: false, generation: 1 });
  });

  test('all at once comes back file by file, and none of them counts as deleted meanwhile', async () => {
    const { root, open, put } = await fixture();
    const names = ['alice', 'bob'];
    for (const name of names) await put(`root/${name}.yaml`, yaml(name, 'one', REMOVE));
    const store = open({ vanishGraceMs: 500 });
    const seen = await follow(store);
    for (const name of names) await rm(join(root, `${name}.yaml`));
    await eventually(() => expect(store.outdated).toBeDefined());
    await put('root/alice.yaml', yaml('alice', 'two', REMOVE));
    await eventually(() => expect(seen).toEqual([{ key: ALICE, cause: 'edit' }]));
    expect(await workspace(store, BOB)).toMatchObject({ deleting: false });
    await put('root/bob.yaml', yaml('bob', 'two', REMOVE));
    await eventually(async () => expect(await plugins(store, BOB)).toEqual(['two']));
    expect(await workspace(store, BOB)).toMatchObject({ deleting: false, generation: 2 });
  });

  test('all at once is believed of those that a person deletes, and where it is allowed', async () => {
    const { root, open, put } = await fixture();
    await put('root/a.yaml', yaml('alice', 'one', REMOVE));
    await put('root/b.yaml', yaml('bob'));
    const store = open({ rescanMs: 50 });
    const seen = await follow(store);
    await Promise.all(['a.yaml', 'b.yaml'].map((name) => rm(join(root, name))));
    await eventually(() => expect(store.outdated).toBeDefined());

    const person = open({ role: 'client' });
    expect((await person.list(signal)).toSorted()).toEqual([ALICE, BOB]);
    expect(person.outdated).toContain('came back empty, and 2 were declared');
    expect(await person.delete(ALICE, signal)).toBe(true);
    expect(await person.delete(ALICE, signal)).toBe(false);
    await eventually(() => expect(seen).toEqual([{ key: ALICE, cause: 'edit' }]));
    expect(await workspace(store, ALICE)).toMatchObject({ deleting: true });
    expect(store.outdated).toContain('1 was declared');
    await store.close();

    const allowed = open({ allowEmpty: true });
    await follow(allowed);
    await eventually(async () => expect(await allowed.get(BOB, signal)).toEqual({ kind: 'absent' }));
    expect(allowed.outdated).toBeUndefined();
  });

  test('the last one alone is deleted like any other, also when nobody ran at the time', async () => {
    const { root, open, put } = await fixture();
    await put('root/a.yaml', yaml('alice', 'one', REMOVE));
    await put('root/b.yaml', yaml('bob'));
    const store = open();
    await follow(store);
    await rm(join(root, 'b.yaml'));
    await eventually(async () => expect(await store.get(BOB, signal)).toEqual({ kind: 'absent' }));
    await rm(join(root, 'a.yaml'));
    await eventually(async () => expect(await workspace(store, ALICE)).toMatchObject({ deleting: true }));
    expect(store.outdated).toBeUndefined();

    await put('root/b.yaml', yaml('bob'));
    await eventually(async () => expect(await plugins(store, BOB)).toEqual(['one']));
    await store.close();
    await rm(join(root, 'b.yaml'));
    const next = open();
    expect(await next.list(signal)).toEqual([ALICE]);
    expect(next.outdated).toBeUndefined();
  });

  test('a directory that never held a workspace may be empty', async () => {
    const { open, logger } = await fixture();
    const store = open();
    await follow(store);
    expect(await store.list(signal)).toEqual([]);
    expect(store.outdated).toBeUndefined();
    expect([...logger.at('warn'), ...logger.at('error')]).toEqual([]);
  });

  test('an empty directory after a restart deletes nothing: a volume may not be mounted', async () => {
    const { root, open, put } = await fixture();
    await put('root/a.yaml', yaml('alice', 'one', REMOVE));
    await put('root/b.yaml', yaml('bob'));
    const first = open();
    await first.list(signal);
    await first.close();
    await Promise.all(['a.yaml', 'b.yaml'].map((name) => rm(join(root, name))));
    const second = open();
    expect((await second.list(signal)).toSorted()).toEqual([ALICE, BOB]);
    expect(await workspace(second, ALICE)).toMatchObject({ deleting: false });
    // A person who says so is believed.
    await put('root/b.yaml', yaml('bob'));
    await eventually(async () => expect((await workspace(second, ALICE)).deleting).toBe(true));
  });

  test('while any file cannot be read nothing counts as deleted', async () => {
    const { root, open, put } = await fixture();
    await put('root/a.yaml', yaml('alice', 'one', REMOVE));
    await put('root/b.yaml', yaml('bob'));
    const store = open();
    await follow(store);
    await put('root/b.yaml', `${yaml('bob')}---\n]`);
    await rm(join(root, 'a.yaml'));
    await eventually(() => expect(store.problems()).not.toEqual([]));
    expect(await workspace(store, ALICE)).toMatchObject({ deleting: false });
    await put('root/b.yaml', yaml('bob'));
    await eventually(async () => expect((await workspace(store, ALICE)).deleting).toBe(true));
  });

  test('a file that is gone and back within the grace time was never away', async () => {
    const { root, open, put, logger } = await fixture();
    await put('root/a.yaml', yaml('alice', 'one', REMOVE));
    await put('root/b.yaml', yaml('bob'));
    const store = open({ vanishGraceMs: NEVER_MS });
    await follow(store);
    const before = await workspace(store, ALICE);
    await rm(join(root, 'a.yaml'));
    await put('root/b.yaml', yaml('bob', 'barrier'));
    await eventually(async () => expect(await plugins(store, BOB)).toEqual(['barrier']));
    expect(await workspace(store, ALICE)).toEqual(before);
    await put('root/a.yaml', yaml('alice', 'one', REMOVE));
    await put('root/b.yaml', yaml('bob', 'second-barrier'));
    await eventually(async () => expect(await plugins(store, BOB)).toEqual(['second-barrier']));
    expect(await workspace(store, ALICE)).toEqual(before);
    expect(logger.at('info')).toEqual([]);
  });

  test('a client deletes nothing and writes no record, wherever it is pointed at', async () => {
    const { base, state, open, put } = await fixture();
    await put('root/a.yaml', yaml('alice', 'one', REMOVE));
    const controller = open();
    await controller.list(signal);
    const before = await readFile(join(state, 'workspaces/default/alice.json'), 'utf8');
    await put('elsewhere/b.yaml', yaml('bob'));
    const client = open({ role: 'client', directory: join(base, 'elsewhere') });
    expect((await client.list(signal)).toSorted()).toEqual([ALICE, BOB]);
    expect(await workspace(client, BOB)).toMatchObject({ generation: 1 });
    expect(await workspace(client, ALICE)).toMatchObject({ deleting: false });
    expect(await readFile(join(state, 'workspaces/default/alice.json'), 'utf8')).toBe(before);
    expect((await controller.list(signal)).toSorted()).toEqual([ALICE]);
  });

  test('a client tells the generation that the controller will give', async () => {
    const { open, put } = await fixture();
    await put('root/a.yaml', yaml('alice'));
    const controller = open();
    await controller.list(signal);
    await put('root/a.yaml', yaml('alice', 'two'));
    expect(await workspace(open({ role: 'client' }), ALICE)).toMatchObject({ generation: 2 });
    expect(await workspace(controller, ALICE)).toMatchObject({ generation: 2 });
  });
});

describe('what is written', () => {
  test('G-18: a state directory that cannot be read is an error, never a fresh start', async () => {
    const { state, open, put } = await fixture();
    await put('root/a.yaml', yaml('alice'));
    await put('state/workspaces/default/alice.json', '{"generation": 3');
    const unavailable = {
      class: 'transient',
      reason: 'StoreUnavailable',
      message: expect.stringContaining(join(state, 'workspaces/default/alice.json')),
    };
    await expect(open().list(signal)).rejects.toMatchObject(unavailable);
  });

  test('a deleted document leaves the others of its file, and the last one takes the file with it', async () => {
    const { root, open, put } = await fixture();
    await put('root/team.yaml', `# team\n${yaml('alice')}---\n# bob\n${yaml('bob')}`);
    const store = open();
    expect(await store.delete(ALICE, signal)).toBe(true);
    expect(await readFile(join(root, 'team.yaml'), 'utf8')).toContain('# bob');
    expect(await store.delete(BOB, signal)).toBe(true);
    await expect(readFile(join(root, 'team.yaml'))).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await store.list(signal)).toEqual([]);
  });

  test('apply edits the file behind a link, keeps its comments and mode, and a request leaves the file alone', async () => {
    const { root, open, put } = await fixture();
    await put('root/real/a.yaml', `# why alice\n${yaml('alice')}`);
    await symlink('real/a.yaml', join(root, 'a.yaml'));
    const store = open();
    const before = await workspace(store, ALICE);
    const manifest = {
      apiVersion: 'plugset.dev/v1alpha1' as const,
      kind: 'Workspace' as const,
      metadata: { name: 'alice' },
      spec: { runtime: before.runtime, target: before.target, plugins: [{ name: 'two', source: 'two' }] },
    };
    expect(await store.apply(manifest, signal)).toBe('configured');
    const text = await readFile(join(root, 'real/a.yaml'), 'utf8');
    expect(text).toContain('# why alice');
    expect(await plugins(store, ALICE)).toEqual(['two']);
    await store.annotate(ALICE, { [REQUESTED_AT_ANNOTATION]: 'now' }, signal);
    expect(await readFile(join(root, 'real/a.yaml'), 'utf8')).toBe(text);
  });

  test('apply refuses what is no Workspace, and a key that is declared twice', async () => {
    const { open, put } = await fixture();
    await put('root/a.yaml', yaml('alice'));
    await put('root/b.yaml', yaml('alice'));
    const store = open();
    const refused = { class: 'terminal', reason: 'InvalidSpec' };
    const manifest = { apiVersion: 'plugset.dev/v1alpha1', kind: 'Workspace', metadata: { name: 'alice' } } as const;
    const spec = { runtime: 'r', target: { external: {} }, plugins: [] };
    await expect(store.apply({ ...manifest, spec: { ...spec, target: {} as never } }, signal)).rejects.toMatchObject(
      refused,
    );
    await expect(store.apply({ ...manifest, spec }, signal)).rejects.toMatchObject({
      ...refused,
      message: expect.stringContaining('a.yaml:1 and b.yaml:1'),
    });
  });

  test('an annotation in the file that is newer than a request wins', async () => {
    const { open, put } = await fixture();
    await put('root/a.yaml', yaml('alice'));
    const store = open();
    await store.annotate(ALICE, { [REQUESTED_AT_ANNOTATION]: 'asked' }, signal);
    expect((await workspace(store, ALICE)).annotations).toEqual({ 'plugset.dev/requestedAt': 'asked' });
    await put(
      'root/a.yaml',
      yaml('alice').replace('{name: alice}', '{name: alice, annotations: {plugset.dev/requestedAt: written}}'),
    );
    expect((await workspace(store, ALICE)).annotations).toEqual({ 'plugset.dev/requestedAt': 'written' });
  });

  test('a first look takes its own time for the time of the declaration, an edit the time of the file', async () => {
    const { root, open, put } = await fixture();
    await put('root/a.yaml', yaml('alice'));
    await utimes(join(root, 'a.yaml'), 1, 1);
    const store = open();
    expect((await workspace(store, ALICE)).declaredAtMs).toBeGreaterThan(1_600_000_000_000);
    await put('root/a.yaml', yaml('alice', 'two'));
    await cp(join(root, 'a.yaml'), join(root, '.kept'), { preserveTimestamps: true });
    const { mtimeMs } = await import('node:fs').then(({ statSync }) => statSync(join(root, '.kept')));
    expect(Math.abs((await workspace(store, ALICE)).declaredAtMs - mtimeMs)).toBeLessThan(2000);
  });
});

describe('a directory that cannot be read', () => {
  const problems: readonly (readonly [string, string, RegExp])[] = [
    ['is not there', 'nowhere', /^there is no directory .*\/nowhere \(--files\); make it, or name another one$/],
    ['is a file', 'root/a.yaml', /a\.yaml \(--files\) is no directory; name the one that holds the \.yaml files$/],
  ];
  test.each(problems)('that %s: one message says so, and what to do', async (_, directory, message) => {
    const { base, open, put, logger } = await fixture();
    await put('root/a.yaml', yaml('alice'));
    const store = open({ directory: join(base, directory), origin: '--files' });
    await expect(store.list(signal)).rejects.toMatchObject({
      class: 'transient',
      reason: 'StoreUnavailable',
      message: expect.stringMatching(message),
    });
    expect(logger.lines).toEqual([]);
    await follow(store);
    expect(logger.at('error')).toHaveLength(1);
  });

  test('that may not be read: whose mode to check', () => {
    const denied = (path: string): Error => Object.assign(new Error('EACCES'), { code: 'EACCES', path });
    const root = { path: '/w', origin: 'PLUGSET_FILES' };
    expect(unreadableRoot(root, denied('/w')).message).toBe(
      'plugset may not read /w (PLUGSET_FILES); check owner and mode',
    );
    expect(unreadableRoot(root, denied('/w/a')).message).toBe(
      'plugset may not read everything below /w (PLUGSET_FILES); check owner and mode',
    );
  });
});

test('whoever asks for something else hears in one line that files are broken, and how to see them', async () => {
  const { root, open, put, logger } = await fixture();
  await put('root/a.yaml', yaml('alice').replace('runtime', 'runtmie'));
  await put('root/b.yaml', 'kind: [');
  await put('root/c.yaml', yaml('carol'));
  const client = open({ role: 'client' });
  expect(await client.list(signal)).toEqual(expect.arrayContaining([ALICE, key('default/carol')]));
  await client.get(ALICE, signal);
  const count = client.problems().length;
  expect(count).toBeGreaterThan(1);
  expect(logger.lines.map(({ message }) => message)).toEqual([
    `there are ${count} problems in the files; \`plugset validate ${root}\` shows them`,
  ]);
});

test("the state directory is its owner's alone", async () => {
  const { state, open, put } = await fixture();
  await put('root/a.yaml', yaml('alice', 'one', REMOVE));
  const store = open();
  await follow(store);
  const clock = new SystemClock();
  const logger = new RecordingLogger();
  const term = await new FilesLeadership({ stateDirectory: state, clock, logger }).acquire(signal);
  await store.writeStatus({ key: ALICE, status: EMPTY_STATUS, fence: term.fence }, signal);
  await store.annotate(ALICE, { [REQUESTED_AT_ANNOTATION]: 'now' }, signal);
  await new FilesControllerState({ stateDirectory: state, clock }).compareAndSwap('a/b', undefined, 1, signal);
  const modes = new Map<string, number>();
  for (const entry of await readdir(state, { recursive: true, withFileTypes: true })) {
    if (!entry.isDirectory() && !entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    modes.set(path, (await stat(path)).mode & 0o777);
    expect({ path, mode: modes.get(path) }).toEqual({ path, mode: entry.isDirectory() ? 0o700 : 0o600 });
  }
  await term.release();
  expect((await stat(state)).mode & 0o777).toBe(0o700);
  for (const file of ['workspaces/default/alice.json', 'status/default/alice.json', 'requests/default/alice.json'])
    expect(modes.has(join(state, file))).toBe(true);
  for (const file of ['documents/a/b.json', 'fence.json', 'leader.json', 'lock.json'])
    expect(modes.has(join(state, file))).toBe(true);
});
