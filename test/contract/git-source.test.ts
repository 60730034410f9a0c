import { join } from 'node:path';

import type { GitSource } from '../../src/adapters/git/git-source.ts';
import { withBackend } from '../support/backend.ts';
import { GitHttp } from '../support/git-http.ts';
import { GitRepo, type TestFile } from '../support/git-repo.ts';
import { testGitSource } from '../support/git-source.ts';
import { sshdAt } from '../support/sshd.ts';
import { tempDir } from '../support/temp-dir.ts';
import { describePluginSource, type PluginSourcePlace } from './plugin-source.ts';

/** Every file of a tree, one directory further down. */
function below(prefix: string, files: Readonly<Record<string, TestFile>>): Record<string, TestFile> {
  return Object.fromEntries(Object.entries(files).map(([path, file]) => [`${prefix}/${path}`, file]));
}

async function place(
  made: { readonly source: GitSource; leftovers(): Promise<readonly string[]> },
  repo: GitRepo,
  address: string,
  prefix?: string,
): Promise<PluginSourcePlace> {
  return {
    source: made.source,
    publish: async (files) => {
      await repo.commit(prefix === undefined ? files : { ...below(prefix, files), 'outside.md': 'not the plugin' });
    },
    following: `${address}#main`,
    missing: `${address}#nowhere`,
    malformed: `${address}#-rf`,
    leftovers: made.leftovers,
    keepsHistory: true,
  };
}

describePluginSource('git+file', {
  create: async () => {
    const made = await testGitSource();
    const repo = await GitRepo.create(join(made.dir, 'demo'));
    return place(made, repo, `git+file://${repo.bare}`);
  },
});

describePluginSource('github', {
  create: async () => {
    const root = await tempDir();
    const http = await GitHttp.start({ root });
    const made = await testGitSource({ githubBaseUrl: http.url });
    return place(made, await GitRepo.create(join(root, 'owner/demo')), 'github://owner/demo');
  },
});

describePluginSource('gitea, with a sub-path', {
  create: async () => {
    const root = await tempDir();
    const http = await GitHttp.start({ root });
    const made = await testGitSource({ giteaBaseUrl: `${http.url}/` });
    const repo = await GitRepo.create(join(root, 'owner/mono'));
    return place(made, repo, 'gitea://owner/mono/plugins/demo', 'plugins/demo');
  },
});

describePluginSource('git+http, on a server that speaks protocol 0', {
  create: async () => {
    const root = await tempDir();
    const http = await GitHttp.start({ root });
    const made = await testGitSource();
    const repo = await GitRepo.create(join(root, 'team/demo'));
    return place(made, repo, `git+http://${http.host}/protocol0/team/demo.git`);
  },
});

describePluginSource('git+http, SHA-256 objects and a sub-path', {
  create: async () => {
    const root = await tempDir();
    const http = await GitHttp.start({ root });
    const made = await testGitSource();
    const repo = await GitRepo.create(join(root, 'team/demo'), 'sha256');
    return place(made, repo, `git+http://${http.host}/team/demo.git//sub`, 'sub');
  },
});

await withBackend('sshd', (address) => {
  describePluginSource('git+ssh', {
    create: async () => {
      const { clientKeyFile, knownHostsFile, port } = await sshdAt(address);
      const made = await testGitSource({ ssh: { knownHostsFile, identityFiles: { '*': clientKeyFile } } });
      const repo = await GitRepo.create(join(made.dir, 'demo'));
      return place(made, repo, `git+ssh://root@127.0.0.1:${port}${repo.bare}`);
    },
  });
});
