import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { SystemClock } from '../../src/adapters/system/clock.ts';
import { DiskScratchSpace } from '../../src/adapters/system/disk-scratch-space.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { ArtifactCache } from '../../src/plugins/artifact-cache.ts';
import type { Artifact } from '../../src/ports/artifacts.ts';
import { Revisions } from '../../src/reconcile/revisions.ts';
import { SourceRegistry } from '../../src/reconcile/source-registry.ts';
import { text } from '../support/entries.ts';
import { GitHttp } from '../support/git-http.ts';
import { GitRepo } from '../support/git-repo.ts';
import { testGitSource } from '../support/git-source.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { recordingMetrics } from '../support/recording-metrics.ts';
import { tempDir } from '../support/temp-dir.ts';

const never = new AbortController().signal;
const alice = workspaceKey('default', 'alice');

async function setup(): Promise<{
  http: GitHttp;
  repo: GitRepo;
  registry: SourceRegistry;
  revisions: Revisions;
  moved: string[];
  contentOf(sourceText: string, fresh: boolean): Promise<{ content: string | undefined; stale: unknown }>;
}> {
  const root = await tempDir();
  const http = await GitHttp.start({ root });
  const { source } = await testGitSource({ githubBaseUrl: http.url });
  const registry = new SourceRegistry([source]);
  const clock = new SystemClock();
  const metrics = recordingMetrics();
  const logger = new RecordingLogger();
  const moved: string[] = [];
  const revisions = new Revisions({
    registry,
    clock,
    logger,
    metrics,
    intervalMs: () => 3_600_000,
    onMoved: (keys) => void moved.push(...keys),
  });
  const dir = await tempDir();
  const scratch = await DiskScratchSpace.open(join(dir, 'tmp'), clock);
  const cache = await ArtifactCache.open({
    dir,
    scratch,
    clock,
    logger,
    metrics,
    fetch: (...args) => source.fetch(...args),
  });
  const contentOf = async (
    sourceText: string,
    fresh: boolean,
  ): ReturnType<Awaited<ReturnType<typeof setup>>['contentOf']> => {
    const parsed = registry.parse(sourceText);
    const { revision, stale } = await revisions.resolve(parsed, fresh, never);
    return { content: await readFile(await cache.get(parsed, revision, never), 'f'), stale };
  };
  return { http, repo: await GitRepo.create(join(root, 'team/demo')), registry, revisions, moved, contentOf };
}

async function readFile(artifact: Artifact, path: string): Promise<string | undefined> {
  for await (const { file, content } of artifact.open()) if (file.path === path) return text(content);
  return undefined;
}

describe('I-02: sources in the shapes that people write', () => {
  it('are each followed: branch, version tag, bare commit', async () => {
    const { contentOf, registry, repo, revisions } = await setup();
    const first = await repo.commit({ f: 'first' });
    await repo.tag('v0.2.1');
    const shapes = ['github://team/demo#main', 'github://team/demo#v0.2.1', `github://team/demo#${first}`];
    revisions.follow(
      alice,
      shapes.map((shape) => registry.parse(shape)),
    );
    for (const shape of shapes) expect(await contentOf(shape, false)).toEqual({ content: 'first', stale: undefined });
    await repo.commit({ f: 'second' });
    expect((await contentOf(shapes[0] ?? '', true)).content).toBe('second');
    expect((await contentOf(shapes[1] ?? '', true)).content).toBe('first');
    expect((await contentOf(shapes[2] ?? '', true)).content).toBe('first');
    await repo.git('tag', '--force', 'v0.2.1');
    await repo.git('push', '--quiet', '--force', repo.bare, 'refs/tags/v0.2.1');
    expect((await contentOf(shapes[1] ?? '', true)).content).toBe('second');
    revisions.stop();
  });
});

describe('I-38: a branch that moves, and a forge that goes down', () => {
  it('the new tip is taken up, its followers are woken, and what stands keeps standing', async () => {
    const { contentOf, http, moved, registry, repo, revisions } = await setup();
    const source = 'github://team/demo#main';
    revisions.follow(alice, [registry.parse(source)]);
    await repo.commit({ f: 'A' });
    expect(await contentOf(source, false)).toEqual({ content: 'A', stale: undefined });
    await repo.commit({ f: 'B' });
    expect(await contentOf(source, true)).toEqual({ content: 'B', stale: undefined });
    expect(moved).toEqual([alice]);
    await http.stop();
    expect(await contentOf(source, true)).toEqual({
      content: 'B',
      stale: expect.objectContaining({ class: 'transient', reason: 'SourceUnavailable' }),
    });
    revisions.stop();
  });
});
