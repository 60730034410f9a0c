import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { eventually } from '../support/eventually.ts';
import { GitRepo } from '../support/git-repo.ts';
import type { Plugset } from '../support/plugset.ts';

/** What a person does to a declaration, in the way of one store. */
export interface StoryStore {
  declare(name: string, target: object, plugins: Readonly<Record<string, string>>): Promise<void>;
  remove(name: string): Promise<void>;
}

/** The place where plugins go, past plugset. */
export interface StoryTarget {
  readonly spec: object;
  /** What is in `plugins/`, sorted. */
  plugins(): Promise<readonly string[]>;
  /** Content of a file below the config directory, or `undefined`. */
  read(path: string): Promise<string | undefined>;
  write(path: string, content: string): Promise<void>;
  remove(path: string): Promise<void>;
}

export interface StoryStage {
  readonly plugset: Plugset;
  readonly store: StoryStore;
  readonly target: StoryTarget;
  close(): Promise<void>;
}

const skill = (name: string, text: string) => ({ 'plugin.yaml': `name: ${name}\n`, 'SKILL.md': `${text}\n` });

/**
 * The life of one workspace, told the same way for every pair of a store and a kind of target: declare, change a ref, move
 * a branch, drop a plugin, delete and edit by hand, delete the workspace.
 */
export function tellStory(title: string, setStage: () => Promise<StoryStage>): void {
  describe(title, () => {
    let stage: StoryStage;
    let repository: GitRepo;
    let source: string;
    const file = 'plugins/super/SKILL.md';
    const expectContent = (path: string, content: string | undefined): Promise<void> =>
      eventually(async () => expect(await stage.target.read(path)).toBe(content));

    beforeAll(async () => {
      stage = await setStage();
      repository = await GitRepo.create(join(stage.plugset.dirs.git, 'super'));
      await repository.commit(skill('super', 'one'));
      await repository.git('tag', 'v1');
      await repository.git('push', '--quiet', repository.bare, 'v1');
      await repository.commit(skill('super', 'two'));
      source = `git+file://${repository.bare}`;
    });
    afterAll(() => stage.close());

    const declare = (plugins: Readonly<Record<string, string>>): Promise<void> =>
      stage.store.declare('storyteller', stage.target.spec, plugins);

    it('installs what is declared', async () => {
      await declare({ super: `${source}#v1`, extra: `${source}#main` });
      await expectContent(file, 'one\n');
      await expectContent('plugins/extra/SKILL.md', 'two\n');
      const status = await stage.plugset.untilReady('storyteller');
      expect(status).toMatchObject({ summary: '2/2', corrective: 0, intentional: 2 });
    });

    it('replaces when a ref changes', async () => {
      await declare({ super: `${source}#main`, extra: `${source}#main` });
      await expectContent(file, 'two\n');
    });

    it('replaces when a branch moves', async () => {
      await repository.commit(skill('super', 'three'));
      await expectContent(file, 'three\n');
      await expectContent('plugins/extra/SKILL.md', 'three\n');
      expect((await stage.plugset.untilReady('storyteller')).corrective, 'nothing of that was drift').toBe(0);
    });

    it('removes when a plugin is dropped', async () => {
      await declare({ super: `${source}#main` });
      await eventually(async () => expect(await stage.target.plugins()).toEqual(['super']));
    });

    it('restores a deleted tree, an edited file, and a file edited together with the receipt', async () => {
      await stage.target.remove('plugins/super');
      await expectContent(file, 'three\n');
      await stage.target.write(file, 'edited\n');
      await expectContent(file, 'three\n');
      await stage.target.write('.plugset/receipts/super', '{"format":1}\n');
      await stage.target.write(file, 'forged\n');
      await expectContent(file, 'three\n');
      await stage.plugset.until('storyteller', (status) => expect(status.corrective).toBeGreaterThanOrEqual(3));
    });

    it('leaves what a runtime writes beside the files alone: no change in ten passes', async () => {
      await stage.target.write('plugins/super/__pycache__/x.pyc', 'x');
      const before = await stage.plugset.untilReady('storyteller');
      for (let pass = 0; pass < 10; pass++) await stage.plugset.requested('storyteller');
      const { corrective, intentional } = await stage.plugset.status('storyteller');
      expect({ corrective, intentional }).toEqual({ corrective: before.corrective, intentional: before.intentional });
      expect(await stage.target.read('plugins/super/__pycache__/x.pyc')).toBe('x');
    });

    it('never touches what it did not install, and cleans up when the workspace is deleted', async () => {
      await stage.target.write('plugins/mine/notes.txt', 'my own');
      await stage.plugset.requested('storyteller');
      await stage.store.remove('storyteller');
      await eventually(async () => expect(await stage.target.plugins()).toEqual(['mine']));
    });
  });
}
