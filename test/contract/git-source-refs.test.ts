import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import type { GitSource } from '../../src/adapters/git/git-source.ts';
import { withBackend } from '../support/backend.ts';
import { collect } from '../support/entries.ts';
import { GitHttp } from '../support/git-http.ts';
import { GitRepo } from '../support/git-repo.ts';
import { testGitSource } from '../support/git-source.ts';
import { sshdAt } from '../support/sshd.ts';
import { parse, resolveOne } from './plugin-source.ts';

const never = new AbortController().signal;

interface Place {
  readonly source: GitSource;
  readonly repo: GitRepo;
  /** Source text without `#ref`. */
  readonly address: string;
}

/** Five commits, and everything that can point at them. */
async function fill(repo: GitRepo): Promise<Readonly<Record<string, string>>> {
  const commits: Record<string, string> = {};
  for (const name of ['buried', 'light', 'annotated', 'both-tag', 'tip']) {
    commits[name] = await repo.commit({ which: name });
    if (name === 'light') await repo.tag('v0.2.1');
    if (name === 'annotated') await repo.tag('v1', 'annotated');
    if (name === 'both-tag') await repo.tag('both');
  }
  await repo.push('both');
  await repo.push('feature/deep');
  return commits;
}

function describeRefs(scheme: string, create: () => Promise<Place>): void {
  describe(`G-07: every form of ref, over ${scheme}`, () => {
    it('is resolved to a commit of a real bare repository, and exactly that is fetched', async () => {
      const { address, repo, source } = await create();
      const commits = await fill(repo);
      const forms: readonly (readonly [string, string])[] = [
        ['main', 'tip'],
        ['feature/deep', 'tip'],
        ['refs/heads/main', 'tip'],
        ['v0.2.1', 'light'],
        ['tag:v0.2.1', 'light'],
        ['v1', 'annotated'],
        ['tag:v1', 'annotated'],
        ['both', 'both-tag'],
        ['heads/both', 'tip'],
        [`sha:${commits['annotated']}`, 'annotated'],
        [commits['tip'] ?? '', 'tip'],
        [commits['buried'] ?? '', 'buried'],
      ];
      const wanted = forms.map(([ref]) => parse(source, `${address}#${ref}`));
      expect(new Set(wanted.map(({ group }) => group)).size, 'one question').toBe(1);
      const revisions = await source.resolve(wanted, never);
      const got: [string, string | undefined][] = [];
      for (const [at, [ref]] of forms.entries()) {
        const parsed = wanted[at] ?? parse(source, address);
        expect(revisions.get(parsed)).toMatch(/^[0-9a-f]{40}$/);
        got.push([ref, (await collect(source.fetch(parsed, String(revisions.get(parsed)), never)))['which']]);
      }
      expect(got).toEqual(forms);
      expect(wanted.map(({ pinned }) => pinned)).toEqual(forms.map(([ref]) => /[0-9a-f]{40}/.test(ref)));
    });
  });
}

describeRefs('git+file', async () => {
  const { dir, source } = await testGitSource();
  const repo = await GitRepo.create(join(dir, 'demo'));
  return { source, repo, address: `git+file://${repo.bare}` };
});

describeRefs('github', async () => {
  const { http, repo } = await served();
  const { source } = await testGitSource({ githubBaseUrl: http.url });
  return { source, repo, address: 'github://team/demo' };
});

describeRefs('gitea', async () => {
  const { http, repo } = await served();
  const { source } = await testGitSource({ giteaBaseUrl: http.url });
  return { source, repo, address: 'gitea://team/demo' };
});

describeRefs('git+http with protocol 0, which gives out tips only', async () => {
  const { http, repo } = await served();
  const { source } = await testGitSource();
  return { source, repo, address: `git+http://${http.host}/protocol0/team/demo.git` };
});

await withBackend('sshd', (backend) => {
  describeRefs('git+ssh', async () => {
    const { clientKeyFile, knownHostsFile, port } = await sshdAt(backend);
    const { dir, source } = await testGitSource({
      ssh: { knownHostsFile, identityFiles: { '127.0.0.1': clientKeyFile } },
    });
    const repo = await GitRepo.create(join(dir, 'demo'));
    return { source, repo, address: `git+ssh://root@127.0.0.1:${port}${repo.bare}` };
  });
});

async function served(): Promise<{ http: GitHttp; repo: GitRepo }> {
  const { dir } = await testGitSource();
  return { http: await GitHttp.start({ root: dir }), repo: await GitRepo.create(join(dir, 'team/demo')) };
}

describe('refs that are not what they seem', () => {
  it('a thousand long ones do not end the look at those of everybody else', async () => {
    const { address, repo, source } = await onDisk();
    const commit = await repo.commit({ f: 'f' });
    const long = Array.from({ length: 1500 }, (_, index) => parse(source, `${address}#${'x'.repeat(240)}${index}`));
    const [main, last] = ['main', 'refs/heads/main'].map((ref) => parse(source, `${address}#${ref}`));
    const answers = await source.resolve([main!, ...long, last!], never);
    expect([answers.get(main!), answers.get(last!)]).toEqual([commit, commit]);
    expect(answers.get(long[700]!)).toMatchObject({ class: 'terminal', reason: 'PluginNotFound' });
  });

  it('an abbreviated commit is not guessed', async () => {
    const { address, repo, source } = await onDisk();
    const commit = await repo.commit({ f: 'f' });
    const short = parse(source, `${address}#${commit.slice(0, 12)}`);
    await expect(resolveOne(source, short)).rejects.toMatchObject({
      reason: 'PluginNotFound',
      message: expect.stringContaining('give all 40 digits'),
    });
    await repo.git('branch', 'decade');
    await repo.push('decade');
    expect(await resolveOne(source, parse(source, `${address}#decade`))).toBe(commit);
  });

  it('the id of a tag object, of a tree, of a file and of nothing are no commits', async () => {
    const { address, repo, source } = await onDisk();
    const commit = await repo.commit({ f: 'f' });
    await repo.tag('v1', 'annotated');
    const ids = [
      await repo.git('rev-parse', 'v1'),
      await repo.git('rev-parse', `${commit}:`),
      await repo.git('rev-parse', `${commit}:f`),
      '1'.repeat(40),
    ];
    for (const id of ids) {
      const pinned = parse(source, `${address}#${id}`);
      await expect(collect(source.fetch(pinned, await resolveOne(source, pinned), never))).rejects.toMatchObject({
        class: 'terminal',
        reason: 'PluginNotFound',
      });
    }
  });

  it('a tag on something that is no commit is refused when fetched', async () => {
    const { address, repo, source } = await onDisk();
    await repo.commit({ f: 'f' });
    await repo.git('tag', 'tree', 'HEAD^{tree}');
    await repo.git('push', '--quiet', repo.bare, 'refs/tags/tree');
    const parsed = parse(source, `${address}#tag:tree`);
    await expect(collect(source.fetch(parsed, await resolveOne(source, parsed), never))).rejects.toMatchObject({
      reason: 'PluginNotFound',
      message: expect.stringContaining('is a tree, not a commit'),
    });
  });

  it('a sub-path that is a file, or is not there', async () => {
    const { address, repo, source } = await onDisk();
    await repo.commit({ 'dir/f': 'f' });
    for (const sub of ['dir/f', 'other']) {
      const parsed = parse(source, `${address}//${sub}#main`);
      await expect(collect(source.fetch(parsed, await resolveOne(source, parsed), never))).rejects.toMatchObject({
        class: 'terminal',
        reason: 'PluginNotFound',
        message: expect.stringContaining(sub),
      });
    }
  });

  it('a submodule is named for what it is', async () => {
    const { address, repo, source } = await onDisk();
    const inner = await repo.commit({ f: 'f' });
    await repo.git('update-index', '--add', '--cacheinfo', `160000,${inner},sub`);
    await repo.git('commit', '--quiet', '-m', 'sub');
    await repo.push();
    const parsed = parse(source, `${address}#main`);
    expect(await collect(source.fetch(parsed, await resolveOne(source, parsed), never))).toEqual({
      f: 'f',
      sub: '! submodule',
    });
  });
});

it('a disk that git has no room on is not blamed on the source, and is no fault of ours', async () => {
  const { dir, source } = await testGitSource((base) => ({
    scratch: { create: async () => ({ path: join(base, 'gone/work'), remove: async () => undefined }) },
  }));
  const repo = await GitRepo.create(join(dir, 'demo'));
  await expect(resolveOne(source, parse(source, `git+file://${repo.bare}#main`))).rejects.toMatchObject({
    class: 'transient',
    reason: 'CacheUnavailable',
    message: `the artifact cache in ${join(dir, 'gone')} cannot be used (ENOENT)`,
  });
});

async function onDisk(): Promise<Place> {
  const { dir, source } = await testGitSource();
  const repo = await GitRepo.create(join(dir, 'demo'));
  return { source, repo, address: `git+file://${repo.bare}` };
}
