import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import type { GitSourceOptions } from '../../src/adapters/git/git-source.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { DiskScratchSpace } from '../../src/adapters/system/disk-scratch-space.ts';
import { createSources, type SourceConfig } from '../../src/sources.ts';
import { hasOpenssl, TestAuthority, type TestCertificate } from '../support/authority.ts';
import { collect } from '../support/entries.ts';
import { GitHttp } from '../support/git-http.ts';
import { GitRepo } from '../support/git-repo.ts';
import { testGitSource, type TestGitSource } from '../support/git-source.ts';
import { everythingIn, tempDir } from '../support/temp-dir.ts';
import { describePluginSource, parse, resolveOne } from './plugin-source.ts';

const never = new AbortController().signal;
const SECRET = 'hunter2secret';
const LOCALHOST = 'DNS:localhost,IP:127.0.0.1';

interface Served extends TestGitSource {
  readonly http: GitHttp;
  readonly repo: GitRepo;
  readonly authority: TestAuthority;
}

/** A forge with a certificate of an authority of its own, and a source that was told of that authority. */
async function served(
  options: {
    readonly certify?: (authority: TestAuthority) => Promise<TestCertificate>;
    readonly elsewhere?: string;
    /** Of another server: its certificate is trusted too. */
    readonly authority?: TestAuthority;
    readonly source?: Partial<GitSourceOptions>;
  } = {},
): Promise<Served> {
  const authority = options.authority ?? (await TestAuthority.create());
  const certify = options.certify ?? ((issuer) => issuer.certify(LOCALHOST));
  const made = await testGitSource((dir) => ({
    caFile: authority.caFile,
    credentialFiles: [join(dir, 'credentials')],
    ...options.source,
  }));
  await writeFile(join(made.dir, 'credentials'), '');
  const http = await GitHttp.start({
    root: made.dir,
    credential: { user: 'bot', password: SECRET },
    tls: await certify(authority),
    ...(options.elsewhere === undefined ? {} : { elsewhere: options.elsewhere }),
  });
  return { ...made, http, authority, repo: await GitRepo.create(join(made.dir, 'team/demo')) };
}

/** Lets the source offer the secret to these servers. */
async function entrust({ dir }: TestGitSource, ...servers: readonly GitHttp[]): Promise<void> {
  const lines = servers.map(({ url }) => `${url.replace('://', `://bot:${SECRET}@`)}\n`);
  await writeFile(join(dir, 'credentials'), lines.join(''));
}

async function refusal({ source }: TestGitSource, text: string): Promise<unknown> {
  return source.resolve([parse(source, text)], never).then(
    () => expect.fail('it should have been refused'),
    (error: unknown) => error,
  );
}

const authorized = ({ requests }: GitHttp): number =>
  requests.filter(({ authorization }) => authorization !== undefined).length;

describe.skipIf(!hasOpenssl() && process.env['CI'] !== 'true')('git+https, a server with a certificate', () => {
  describePluginSource('git+https', {
    create: async () => {
      const made = await served();
      const text = `git+https://${made.http.host}/team/demo.git`;
      return {
        source: made.source,
        publish: async (files) => void (await made.repo.commit(files)),
        following: `${text}#main`,
        missing: `${text}#nowhere`,
        malformed: `${text}#-rf`,
        leftovers: made.leftovers,
        keepsHistory: true,
      };
    },
  });

  it.each([
    ['of an authority that is not known', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', { source: { caFile: undefined } }],
    ['that is over', 'CERT_HAS_EXPIRED', { certify: (issuer: TestAuthority) => issuer.certify(LOCALHOST, -1) }],
    [
      'of another host',
      'ERR_TLS_CERT_ALTNAME_INVALID',
      { certify: (issuer: TestAuthority) => issuer.certify('DNS:else.example') },
    ],
  ])('%s is named by its code, and the server is told nothing', async (_what, code, options) => {
    const made = await served(options);
    await entrust(made, made.http);
    expect(await refusal(made, `git+https://${made.http.host}/private/team/demo.git#main`)).toMatchObject({
      class: 'terminal',
      reason: 'AuthenticationFailed',
      message: expect.stringContaining(`certificate of localhost is not trusted (${code})`),
    });
    expect(made.http.requests).toEqual([]);
    expect(await made.leftovers()).toEqual([]);
  });

  it('a CA file that is missing or is none may be mended', async () => {
    const dir = await tempDir();
    await writeFile(join(dir, 'not-pem'), 'hello');
    for (const name of ['missing', 'not-pem']) {
      const caFile = join(dir, name);
      const made = await served({ source: { caFile } });
      expect(await refusal(made, `git+https://${made.http.host}/team/demo.git#main`)).toMatchObject({
        class: 'transient',
        reason: 'SourceUnavailable',
        message: expect.stringContaining(caFile),
      });
    }
  });

  it('a server that speaks no TLS may pass', async () => {
    const made = await served();
    const plain = await GitHttp.start({ root: made.dir });
    expect(await refusal(made, `git+https://${plain.host}/team/demo.git#main`)).toMatchObject({
      class: 'transient',
      reason: 'SourceUnavailable',
    });
  });

  it('gets its own credential, and no other server does', async () => {
    const other = await served();
    const made = await served({ authority: other.authority });
    await entrust(made, made.http, other.http);
    const commit = await made.repo.commit({ f: 'f' });
    const parsed = parse(made.source, `git+https://${made.http.host}/private/team/demo.git#main`);
    expect(await resolveOne(made.source, parsed)).toBe(commit);
    expect(await collect(made.source.fetch(parsed, commit, never))).toEqual({ f: 'f' });
    expect(authorized(made.http)).toBeGreaterThan(0);
    expect(other.http.requests).toEqual([]);
    // Without one for this very port it gets none.
    await entrust(made, other.http);
    expect(await refusal(made, `git+https://${made.http.host}/private/team/demo.git#main`)).toMatchObject({
      reason: 'PluginNotFound',
      message: expect.stringContaining('no credential is configured'),
    });
  });

  it.each(['another server', 'a loopback address', 'http'])(
    'is not followed to %s, credential or not',
    async (where) => {
      const thief = await served();
      const plain = await GitHttp.start({ root: thief.dir });
      const elsewhere = {
        'another server': `${thief.http.url}/private`,
        'a loopback address': `https://127.0.0.1:${new URL(thief.http.url).port}/private`,
        http: `http://localhost:${new URL(plain.url).port}`,
      }[where];
      const { authority } = thief;
      const made = await served({ authority, ...(elsewhere === undefined ? {} : { elsewhere }) });
      await entrust(made, made.http, thief.http, plain);
      expect(await refusal(made, `git+https://${made.http.host}/elsewhere/team/demo.git#main`)).toMatchObject({
        class: 'terminal',
        reason: 'PluginNotFound',
        message: expect.stringContaining(`redirects to ${new URL(elsewhere ?? '').host}`),
      });
      expect([...thief.http.requests, ...plain.requests]).toEqual([]);
    },
  );

  it('is reached by what the program is told; plain http and loopback are not unless allowed', async () => {
    const made = await served();
    const commit = await made.repo.commit({ f: 'f' });
    const config: SourceConfig = {
      registries: [],
      gitRoots: [],
      githubUrl: made.http.url,
      giteaUrl: undefined,
      gitCredentials: [],
      caFile: made.authority.caFile,
      knownHosts: undefined,
      sshKey: undefined,
      allowUnpinned: false,
      allowLoopback: true,
      path: process.env['PATH'] ?? '',
    };
    const clock = new SystemClock();
    const work = await tempDir();
    const scratch = await DiskScratchSpace.open(work, clock);
    const sources = createSources(config, clock, scratch);
    for (const text of [`git+https://${made.http.host}/team/demo.git#main`, 'github://team/demo#main']) {
      const parsed = sources.parse(text);
      const answers = await sources.sourceOf(parsed.ref.scheme).resolve([parsed], never);
      expect(answers.get(parsed)).toBe(commit);
    }
    expect(() => sources.parse('git+http://git.example.com/team/demo.git#main')).toThrow(
      expect.objectContaining({ class: 'terminal', reason: 'InvalidSource' }),
    );
    const strict = createSources({ ...config, allowLoopback: false }, clock, scratch);
    const loopback = strict.parse(`git+https://${made.http.host}/team/demo.git#main`);
    await expect(strict.sourceOf('git+https').resolve([loopback], never)).rejects.toMatchObject({
      class: 'terminal',
      reason: 'InvalidSource',
    });
    expect(await everythingIn(work)).toEqual([]);
  });
});
