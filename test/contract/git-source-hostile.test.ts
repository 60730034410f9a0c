import { execFile } from 'node:child_process';
import { appendFile, mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inspect, promisify } from 'node:util';

import { describe, expect, it } from 'vitest';

import { DEFAULT_ARCHIVE_LIMITS } from '../../src/domain/archive.ts';
import { packTree } from '../../src/plugins/pack.ts';
import { withBackend } from '../support/backend.ts';
import { collect } from '../support/entries.ts';
import { GitHttp } from '../support/git-http.ts';
import { GitRepo } from '../support/git-repo.ts';
import { testGitSource, type TestGitSource } from '../support/git-source.ts';
import { sshdAt } from '../support/sshd.ts';
import { everythingIn, tempDir } from '../support/temp-dir.ts';
import { parse, resolveOne } from './plugin-source.ts';

const never = new AbortController().signal;
const COMMIT = '1'.repeat(40);

async function failure(work: Promise<unknown>): Promise<{ class: string; reason: string; message: string }> {
  return work.then(
    () => expect.fail('it should have failed'),
    (error: unknown) => error as never,
  );
}

async function served(
  options: Parameters<typeof testGitSource>[0] = {},
): Promise<TestGitSource & { http: GitHttp; repo: GitRepo }> {
  const made = await testGitSource(options);
  const credential = { user: 'bot', password: 'hunter2secret' };
  const http = await GitHttp.start({ root: made.dir, credential });
  return { ...made, http, repo: await GitRepo.create(join(made.dir, 'team/demo')) };
}

describe('I-53: a repository that is private or missing', () => {
  it('without a credential is a typed answer at once, and nobody is asked for a password', async () => {
    const { http, leftovers, source } = await served();
    for (const mode of ['private/team/demo.git', 'nobody/nothing.git', 'status-403/x.git']) {
      const parsed = parse(source, `git+http://${http.host}/${mode}#main`);
      expect(await failure(source.resolve([parsed], never))).toMatchObject({
        class: 'terminal',
        reason: 'PluginNotFound',
        message: expect.stringContaining('no credential is configured for 127.0.0.1'),
      });
      const pinned = parse(source, `git+http://${http.host}/${mode}#${COMMIT}`);
      expect(await failure(collect(source.fetch(pinned, COMMIT, never)))).toMatchObject({ reason: 'PluginNotFound' });
    }
    expect(http.requests.map(({ authorization }) => authorization)).not.toContain(expect.anything());
    expect(await leftovers()).toEqual([]);
  });

  it('with the right credential is there', async () => {
    const { dir, http, repo, source } = await served((own) => ({ credentialFiles: [join(own, 'credentials')] }));
    await writeFile(join(dir, 'credentials'), `http://bot:hunter2secret@${http.host}\n`);
    const commit = await repo.commit({ f: 'f' });
    const parsed = parse(source, `git+http://${http.host}/private/team/demo.git#main`);
    expect(await resolveOne(source, parsed)).toBe(commit);
    expect(await collect(source.fetch(parsed, commit, never))).toEqual({ f: 'f' });
  });

  it('with a wrong credential says so, and the operator’s file stays as it was', async () => {
    const { dir, http, source } = await served((own) => ({ credentialFiles: [join(own, 'credentials')] }));
    const text = `http://bot:wrongsecret@${http.host}\nhttps://else:where@example.com\n`;
    await writeFile(join(dir, 'credentials'), text);
    const parsed = parse(source, `git+http://${http.host}/private/team/demo.git#main`);
    const error = await failure(source.resolve([parsed], never));
    expect(error).toMatchObject({ class: 'terminal', reason: 'AuthenticationFailed' });
    expect(inspect(error, { depth: 9 })).not.toContain('wrongsecret');
    expect(await readFile(join(dir, 'credentials'), 'utf8')).toBe(text);
    const missing = parse(source, `git+http://${http.host}/nobody/nothing.git#main`);
    expect((await failure(source.resolve([missing], never))).message).toContain('was offered');
  });

  it('a file that is not there', async () => {
    const { dir, source } = await testGitSource();
    const parsed = parse(source, `git+file://${dir}/nothing.git#main`);
    expect(await failure(source.resolve([parsed], never))).toMatchObject({
      class: 'terminal',
      reason: 'PluginNotFound',
    });
  });
});

describe('credentials', () => {
  it('go to their own host and port and to no other', async () => {
    const { dir, http, source } = await served((own) => ({ credentialFiles: [join(own, 'credentials')] }));
    const { port } = new URL(http.url);
    const others = [
      `http://bot:hunter2secret@127.0.0.1:${Number(port) + 1}`,
      'http://bot:hunter2secret@127.0.0.1',
      `https://bot:hunter2secret@${http.host}`,
      `http://bot:hunter2secret@localhost:${port}`,
    ];
    await writeFile(join(dir, 'credentials'), `${others.join('\n')}\n# comment\nnonsense\n`);
    const parsed = parse(source, `git+http://${http.host}/private/team/demo.git#main`);
    expect((await failure(source.resolve([parsed], never))).message).toContain('no credential is configured');
    expect(http.requests.every(({ authorization }) => authorization === undefined)).toBe(true);
  });

  it('stay when a server redirects to another host; within the host a move is followed', async () => {
    const thief = await served();
    const made = await testGitSource((own) => ({ credentialFiles: [join(own, 'credentials')] }));
    const repo = await GitRepo.create(join(made.dir, 'team/demo'));
    const commit = await repo.commit({ f: 'f' });
    const http = await GitHttp.start({ root: made.dir, elsewhere: `${thief.http.url}/private` });
    await writeFile(
      join(made.dir, 'credentials'),
      `http://bot:hunter2secret@${http.host}\nhttp://bot:hunter2secret@${thief.http.host}\n`,
    );
    const away = parse(made.source, `git+http://${http.host}/elsewhere/team/demo.git#main`);
    expect(await failure(made.source.resolve([away], never))).toMatchObject({
      class: 'terminal',
      reason: 'PluginNotFound',
      message: expect.stringContaining(`redirects to ${thief.http.host}`),
    });
    expect(thief.http.requests).toEqual([]);
    const moved = parse(made.source, `git+http://${http.host}/moved/moved/team/demo.git#main`);
    expect(await resolveOne(made.source, moved)).toBe(commit);
    expect(await collect(made.source.fetch(moved, commit, never))).toEqual({ f: 'f' });
    const round = parse(made.source, `git+http://${http.host}/${'moved/'.repeat(9)}team/demo.git#main`);
    expect(await failure(made.source.resolve([round], never))).toMatchObject({ reason: 'PluginNotFound' });
  });

  it.each([
    ['a token', 'x-access-token', 'ghp_hunter2secretABCDEFGH'],
    ['a password with every odd character', 'bot', 'hunter2 secret/:@%&?#é'],
    ['a token as the user', 'hunter2secrettoken', 'x-oauth-basic'],
    ['a long hex secret', 'bot', 'deadbeefhunter2deadbeefdeadbeef'],
    ['a short one', 'bot', 'hunter2'],
  ])('I-69: %s appears in no error, whatever the server echoes', async (_name, user, password) => {
    const { dir, http, leftovers, source } = await served((own) => ({ credentialFiles: [join(own, 'credentials')] }));
    await writeFile(
      join(dir, 'credentials'),
      `http://${encodeURIComponent(user)}:${encodeURIComponent(password)}@${http.host}\n`,
    );
    for (const mode of ['echo-500', 'echo-err']) {
      for (const ref of ['main', COMMIT]) {
        const parsed = parse(source, `git+http://${http.host}/${mode}/x.git#${ref}`);
        const error = await failure(
          ref === 'main' ? source.resolve([parsed], never) : collect(source.fetch(parsed, COMMIT, never)),
        );
        const shown = inspect(error, { depth: 9, showHidden: true });
        const forms = [
          'hunter2',
          encodeURIComponent(password),
          Buffer.from(`${user}:${password}`).toString('base64').replaceAll('=', ''),
        ];
        for (const form of forms) expect(shown).not.toContain(form);
      }
    }
    expect(http.requests.some(({ authorization }) => authorization !== undefined)).toBe(true);
    expect(await leftovers()).toEqual([]);
  });

  it('are never arguments or environment of a process, and files of nobody else', async () => {
    const { dir, http, source } = await served((own) => ({ credentialFiles: [join(own, 'credentials')] }));
    await writeFile(join(dir, 'credentials'), `http://bot:hunter2secret@${http.host}\n`);
    const parsed = parse(source, `git+http://${http.host}/silent/x.git#main`);
    const abort = new AbortController();
    const asking = failure(source.resolve([parsed], abort.signal));
    await expect.poll(() => http.requests.length).toBe(1);
    const { stdout } = await promisify(execFile)(
      'sh',
      ['-c', 'cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n"; :'],
      { maxBuffer: 1 << 28 },
    );
    expect(stdout).toContain('/silent/x.git');
    expect(stdout).not.toContain('hunter2secret');
    abort.abort();
    expect(await asking).toMatchObject({ class: 'aborted' });
  });
});

describe('a server that will not end', () => {
  it.each(['silent', 'endless-refs'])('%s: the deadline ends it, and every process of it', async (mode) => {
    const { http, leftovers, source } = await served({ resolveDeadlineMs: 1500 });
    const parsed = parse(source, `git+http://${http.host}/${mode}/x.git#main`);
    expect(await failure(source.resolve([parsed], never))).toMatchObject({
      class: 'transient',
      reason: 'SourceUnavailable',
      message: '127.0.0.1 did not answer within 1.5 s',
    });
    expect(await leftovers()).toEqual([]);
    expect(await processesAbout(http.host)).toEqual([]);
  });

  it('endless-pack: the cap on the disk ends it', async () => {
    const cap = 8 * 1024 * 1024;
    const { http, leftovers, source } = await served({ maxRepositoryBytes: cap });
    const parsed = parse(source, `git+http://${http.host}/endless-pack/x.git#main`);
    expect(await resolveOne(source, parsed)).toBe(COMMIT);
    const before = process.memoryUsage().rss;
    expect(await failure(collect(source.fetch(parsed, COMMIT, never)))).toMatchObject({
      class: 'terminal',
      reason: 'SourceRejected',
      message: expect.stringContaining(`more than ${cap} bytes`),
    });
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024);
    expect(await leftovers()).toEqual([]);
    expect(await processesAbout(http.host)).toEqual([]);
  });
});

describe('a server in trouble', () => {
  it.each(['status-500', 'status-503', 'status-429'])('%s may pass', async (mode) => {
    const { http, source } = await served();
    const parsed = parse(source, `git+http://${http.host}/${mode}/x.git#main`);
    expect(await failure(source.resolve([parsed], never))).toMatchObject({
      class: 'transient',
      reason: 'SourceUnavailable',
      message: expect.stringContaining(mode.slice(7)),
    });
  });

  it('nobody listening, and a name that does not exist, may pass', async () => {
    const { http, source } = await served();
    await http.stop();
    for (const host of [http.host, 'does-not-exist.invalid']) {
      const parsed = parse(source, `git+http://${host}/x.git#main`);
      expect(await failure(source.resolve([parsed], never))).toMatchObject({
        class: 'transient',
        reason: 'SourceUnavailable',
      });
    }
  });

  it('git that is not installed is our own trouble, and may pass', async () => {
    const { http, source } = await served({ path: '/nonexistent' });
    const parsed = parse(source, `git+http://${http.host}/x.git#main`);
    expect(await failure(source.resolve([parsed], never))).toMatchObject({
      class: 'transient',
      reason: 'SourceUnavailable',
      message: expect.stringContaining('git cannot be started'),
    });
  });
});

describe('places that are not allowed', () => {
  it.each([
    '127.0.0.1',
    'localhost',
    '[::1]',
    '[::ffff:127.0.0.1]',
    '0.0.0.0',
    '2130706433',
    '0x7f.1',
    '169.254.169.254',
    '[64:ff9b::a9fe:a9fe]',
    '[fe80::1]',
    '[fd00:ec2::254]',
  ])('loopback and link-local hosts, however they are written: %s', async (host) => {
    const { source } = await testGitSource({ allowLoopback: false });
    for (const text of [`git+http://${host}:1/x.git#main`, `git+ssh://${host}:1/x.git#main`]) {
      const error = await failure(source.resolve([parse(source, text)], never));
      expect(error).toMatchObject({ class: 'terminal', reason: 'InvalidSource' });
    }
  });

  it('files outside the roots, through links, through .. and through a worktree’s .git file', async () => {
    const outside = await tempDir();
    const secret = await GitRepo.create(join(outside, 'secret'));
    await secret.commit({ f: 'secret' });
    const { dir, source } = await testGitSource();
    await symlink(secret.bare, join(dir, 'link.git'));
    await mkdir(join(dir, 'worktree'));
    await writeFile(join(dir, 'worktree', '.git'), `gitdir: ${secret.bare}\n`);
    await mkdir(join(dir, 'linked'));
    await symlink(secret.bare, join(dir, 'linked', '.git'));
    for (const path of [
      secret.bare,
      join(dir, 'link.git'),
      join(dir, 'worktree'),
      join(dir, 'linked'),
      `${dir}-sibling/x`,
      '/',
    ]) {
      const source2 = (): Promise<unknown> => source.resolve([parse(source, `git+file://${path}#main`)], never);
      expect(await failure(Promise.resolve().then(source2))).toMatchObject({
        class: 'terminal',
        reason: 'InvalidSource',
      });
    }
    const none = await testGitSource({ fileRoots: [] });
    expect(
      await failure(none.source.resolve([parse(none.source, `git+file://${secret.bare}#main`)], never)),
    ).toMatchObject({ reason: 'InvalidSource' });
  });

  it('a repository with a working copy, and one under an odd name, are fine', async () => {
    const { dir, source } = await testGitSource();
    const repo = await GitRepo.create(join(dir, 'demo'));
    const commit = await repo.commit({ f: 'f' });
    expect(await resolveOne(source, parse(source, `git+file://${repo.work}#master`)).catch(() => 'no master')).toBe(
      'no master',
    );
    expect(await resolveOne(source, parse(source, `git+file://${repo.work}#main`))).toBe(commit);
    await rename(repo.bare, join(dir, 'a space %41.git'));
    await symlink(join(dir, 'a space %41.git'), join(dir, 'plain.git'));
    expect(await resolveOne(source, parse(source, `git+file://${dir}/plain.git#main`))).toBe(commit);
  });
});

describe('a repository that means harm', () => {
  it('runs no hook, filter, alias or helper of its own, nor of whoever runs us', async () => {
    const { dir, source } = await testGitSource();
    const repo = await GitRepo.create(join(dir, 'demo'));
    const mark = join(dir, 'mark');
    const bait = `touch ${mark}`;
    await repo.commit({ '.gitattributes': '* filter=bait\n', f: 'f', '.gitconfig': `[core]\n\tfsmonitor = ${bait}\n` });
    await appendFile(
      join(repo.bare, 'config'),
      `[core]\n\tfsmonitor = ${bait}\n\tsshCommand = ${bait}\n[filter "bait"]\n\tsmudge = ${bait}\n[uploadpack]\n\tpackObjectsHook = ${bait}\n[alias]\n\tls-tree = !${bait}\n`,
    );
    for (const hook of ['post-checkout', 'reference-transaction', 'pre-receive']) {
      await writeFile(join(repo.bare, 'hooks', hook), `#!/bin/sh\n${bait}\n`, { mode: 0o755 });
    }
    const parsed = parse(source, `git+file://${repo.bare}#main`);
    const found = await collect(source.fetch(parsed, await resolveOne(source, parsed), never));
    expect(found['f']).toBe('f');
    expect(await everythingIn(dir)).not.toContain('mark');
  });

  it('a million entries and ten gigabytes out of a few kilobytes: refused, memory flat, nothing left', async () => {
    const { dir, leftovers, source } = await testGitSource();
    const repo = await GitRepo.create(join(dir, 'demo'));
    await repo.commit({ f: 'f' });
    const git = (input: string | Buffer, ...args: string[]): Promise<string> => gitWithInput(repo.work, input, args);
    const blob = await git('x', 'hash-object', '-w', '--stdin');
    const wide = await git(
      Array.from({ length: 10_000 }, (_, at) => `100644 blob ${blob}\tf${at}\n`).join(''),
      'mktree',
    );
    const many = await git(Array.from({ length: 100 }, (_, at) => `040000 tree ${wide}\td${at}\n`).join(''), 'mktree');
    const zeros = await git(Buffer.alloc(50 * 1024 * 1024), 'hash-object', '-w', '--stdin');
    const huge = await git(Array.from({ length: 200 }, (_, at) => `100644 blob ${zeros}\tz${at}\n`).join(''), 'mktree');
    for (const [branch, tree] of [
      ['many', many],
      ['huge', huge],
    ] as const) {
      const commit = await git('', 'commit-tree', '-m', branch, tree);
      await repo.git('push', '--quiet', repo.bare, `${commit}:refs/heads/${branch}`);
      const parsed = parse(source, `git+file://${repo.bare}#${branch}`);
      const work = await tempDir();
      const options = { dir: work, limits: DEFAULT_ARCHIVE_LIMITS, signal: never };
      const before = process.memoryUsage().rss;
      const error = await failure(packTree(source.fetch(parsed, await resolveOne(source, parsed), never), options));
      expect(error).toMatchObject({ class: 'terminal', reason: 'SourceRejected' });
      expect(process.memoryUsage().rss - before).toBeLessThan(150 * 1024 * 1024);
      expect(await everythingIn(work)).toEqual([]);
      expect(await leftovers()).toEqual([]);
    }
  });
});

await withBackend('sshd', (address) => {
  describe('git+ssh', () => {
    it('without a key, with a stranger’s key and with an unknown host key: three typed refusals, and no prompt', async () => {
      const { clientKeyFile, knownHostsFile, port, strangerKeyFile } = await sshdAt(address);
      const empty = join(await tempDir(), 'known_hosts');
      await writeFile(empty, '');
      const cases = [
        [{ knownHostsFile, identityFiles: {} }, 'none is configured'],
        [{ knownHostsFile, identityFiles: { '*': strangerKeyFile } }, 'refused the key'],
        [{ knownHostsFile: empty, identityFiles: { '*': clientKeyFile } }, 'host key'],
        [undefined, 'host key'],
      ] as const;
      for (const [ssh, message] of cases) {
        const { source } = await testGitSource({ ssh });
        const parsed = parse(source, `git+ssh://root@127.0.0.1:${port}/srv/x.git#main`);
        expect(await failure(source.resolve([parsed], never))).toMatchObject({
          class: 'terminal',
          reason: 'AuthenticationFailed',
          message: expect.stringContaining(message),
        });
      }
    });

    it('a repository that is not there, and a server that is not', async () => {
      const { clientKeyFile, knownHostsFile, port } = await sshdAt(address);
      const { source } = await testGitSource({ ssh: { knownHostsFile, identityFiles: { '*': clientKeyFile } } });
      const missing = parse(source, `git+ssh://root@127.0.0.1:${port}/srv/nothing.git#main`);
      expect(await failure(source.resolve([missing], never))).toMatchObject({
        reason: 'PluginNotFound',
        message: expect.stringContaining('was offered'),
      });
      const away = parse(source, 'git+ssh://root@127.0.0.1:1/srv/x.git#main');
      expect(await failure(source.resolve([away], never))).toMatchObject({
        class: 'transient',
        reason: 'SourceUnavailable',
      });
    });
  });
});

async function gitWithInput(cwd: string, input: string | Buffer, args: readonly string[]): Promise<string> {
  const identity = {
    GIT_AUTHOR_NAME: 't',
    GIT_AUTHOR_EMAIL: 't@t',
    GIT_COMMITTER_NAME: 't',
    GIT_COMMITTER_EMAIL: 't@t',
  };
  const running = promisify(execFile)('git', [...args], { cwd, env: { ...process.env, ...identity } });
  running.child.stdin?.on('error', () => undefined).end(input); // Not every command reads its input.
  return (await running).stdout.trim();
}

/** Command lines on this machine that name a host and port of ours; those of this process's own tools not counted. */
async function processesAbout(host: string): Promise<readonly string[]> {
  const { stdout } = await promisify(execFile)('ps', ['-eo', 'args']);
  return stdout.split('\n').filter((line) => line.includes(host) && line.includes('git'));
}
