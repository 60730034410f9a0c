import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, it, onTestFinished } from 'vitest';

import { LocalSecrets } from '../../src/adapters/system/local-secrets.ts';
import { GrantedGitSource } from '../../src/adapters/git/granted-git-source.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { DiskScratchSpace } from '../../src/adapters/system/disk-scratch-space.ts';
import type { CredentialFile } from '../../src/domain/access.ts';
import { workspaceKey, type PluginName } from '../../src/domain/name.ts';
import type { DesiredPlugin } from '../../src/domain/plan.ts';
import { ArtifactCache } from '../../src/plugins/artifact-cache.ts';
import type { PluginSource } from '../../src/ports/plugin-source.ts';
import { resolveDesired, type DesiredPorts } from '../../src/reconcile/desired.ts';
import { Errands } from '../../src/reconcile/errands.ts';
import { Revisions } from '../../src/reconcile/revisions.ts';
import { SourceRegistry } from '../../src/reconcile/source-registry.ts';
import { GitHttp } from '../support/git-http.ts';
import { GitRepo } from '../support/git-repo.ts';
import { testGitSource } from '../support/git-source.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { recordingMetrics } from '../support/recording-metrics.ts';
import { tempDir } from '../support/temp-dir.ts';
import { workspaceAt } from '../support/workspaces.ts';
import { describePluginSource } from './plugin-source.ts';

const never = new AbortController().signal;
const SECRET = 'hunter2secret';

/** A forge with a private repository, a file with the credential for it, and everything that asks there. */
async function fleet(grants: Omit<CredentialFile, 'file'>) {
  const made = await testGitSource();
  const file = join(made.dir, 'credentials');
  const { source } = await testGitSource({ credentialFiles: [file] });
  const http = await GitHttp.start({ root: made.dir, credential: { user: 'bot', password: SECRET } });
  await writeFile(file, `${http.url.replace('://', `://bot:${SECRET}@`)}\n`);
  const create = ({ credentialFiles }: { readonly credentialFiles: readonly string[] }): PluginSource =>
    credentialFiles.length === 0 ? made.source : source;
  const granted = new GrantedGitSource({ credentials: [{ ...grants, file }], sshKey: undefined, create });
  const repo = await GitRepo.create(join(made.dir, 'team/demo'));
  return { ...made, granted, http, repo };
}

async function portsOf(source: PluginSource): Promise<DesiredPorts> {
  const registry = new SourceRegistry([source]);
  const [clock, logger, metrics] = [new SystemClock(), new RecordingLogger(), recordingMetrics()];
  const dir = await tempDir();
  const scratch = await DiskScratchSpace.open(join(dir, 'scratch'), clock);
  const fetch: PluginSource['fetch'] = (one, revision, signal) => source.fetch(one, revision, signal);
  const artifacts = await ArtifactCache.open({ dir, scratch, fetch, clock, logger, metrics });
  onTestFinished(() => artifacts.close());
  const intervalMs = (): number => 3_600_000;
  const revisions = new Revisions({ registry, clock, logger, metrics, intervalMs, onMoved: () => undefined });
  onTestFinished(() => revisions.stop());
  const secrets = new LocalSecrets([], {});
  return { registry, revisions, artifacts, secrets, errands: new Errands({ clock, onEnded: () => undefined }) };
}

/** What becomes of a plugin that is declared in a namespace. */
async function declared(ports: DesiredPorts, namespace: string, source: string): Promise<DesiredPlugin | undefined> {
  const plugin = { name: 'demo' as PluginName, source, origin: 'the test' };
  const workspace = { ...workspaceAt({ external: {} }), key: workspaceKey(namespace, 'alice'), plugins: [plugin] };
  return (await resolveDesired(workspace, ports, false, never)).plugins[0];
}

describePluginSource('git over http, asked with what everybody may use', {
  create: async () => {
    const { granted, http, repo, leftovers } = await fleet({ namespaces: ['team-a'] });
    return {
      source: granted,
      publish: async (files) => void (await repo.commit(files)),
      following: `git+http://${http.host}/team/demo.git#main`,
      missing: `git+http://${http.host}/team/demo.git#none`,
      malformed: `git+http://${http.host}/team/demo.git`,
      leftovers,
      keepsHistory: true,
    };
  },
});

it('gives nobody else what the credential of a namespace has fetched', async () => {
  const { granted, http, repo } = await fleet({ namespaces: ['team-a'] });
  const revision = await repo.commit({ f: 'secret' });
  const text = `git+http://${http.host}/private/team/demo.git#main`;
  const ports = await portsOf(granted);
  const pinned = text.replace('#main', `#${revision}`);
  for (const source of [text, pinned])
    expect(await declared(ports, 'team-a', source)).toMatchObject({ kind: 'resolved', revision });
  for (const source of [text, pinned])
    expect(await declared(ports, 'team-b', source)).toMatchObject({
      kind: 'unresolved',
      error: { reason: 'PluginNotFound', message: expect.stringContaining('sources.gitCredentials') as string },
    });
});

it('gives nobody what is granted to no namespace, and everybody what is public', async () => {
  const { granted, http, repo } = await fleet({ namespaces: [] });
  const revision = await repo.commit({ f: 'f' });
  const ports = await portsOf(granted);
  const hidden = await declared(ports, 'team-a', `git+http://${http.host}/private/team/demo.git#main`);
  expect(hidden).toMatchObject({ kind: 'unresolved', error: { reason: 'PluginNotFound' } });
  const shown = await declared(ports, 'team-b', `git+http://${http.host}/team/demo.git#main`);
  expect(shown).toMatchObject({ kind: 'resolved', revision });
  expect(http.requests.filter(({ authorization }) => authorization !== undefined)).toEqual([]);
});
