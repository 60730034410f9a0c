import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';

import { eventually } from '../support/eventually.ts';
import { writePlugin } from '../support/plugset.ts';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const recipes = await readFile(new URL('../../manifests/gitops/README.md', import.meta.url), 'utf8');

/** The block of shell under a heading that begins with this comment. */
function recipe(heading: string, comment: string): string {
  const section = recipes.split(/^## /m).find((text) => text.startsWith(heading)) ?? '';
  const blocks = [...section.matchAll(/^```sh\n# ([^\n]*)\n([^]*?)^```/gm)];
  const found = blocks.find(([, said = '']) => said === comment || said.startsWith(`${comment},`))?.[2];
  if (found === undefined) throw new Error(`manifests/gitops/README.md has no block "# ${comment}" under ${heading}`);
  return found;
}

describe('manifests/gitops/README.md', () => {
  let base: string;
  let environment: NodeJS.ProcessEnv;
  let daemon: ChildProcess | undefined;

  beforeEach(async () => {
    base = await realpath(await mkdtemp(join(tmpdir(), 'plugset-gitops-')));
    for (const dir of ['root/alice', 'registry', 'bin', 'work']) await mkdir(join(base, dir), { recursive: true });
    await writePlugin(join(base, 'registry/one'), { 'SKILL.md': 'one\n' });
    await writePlugin(join(base, 'registry/two'), { 'SKILL.md': 'two\n' });
    await writeFile(join(base, 'bin/plugset'), `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
    await chmod(join(base, 'bin/plugset'), 0o755);
    environment = {
      PATH: `${join(base, 'bin')}:${process.env['PATH']}`,
      HOME: base,
      REPO: join(base, 'repo'),
      STATE: join(base, 'state'),
      PLUGSET_ROOT: join(base, 'root'),
      PLUGSET_REGISTRY: join(base, 'registry'),
      PLUGSET_CACHE_DIR: join(base, 'cache'),
      PLUGSET_LISTEN: '127.0.0.1:0',
      GIT_AUTHOR_NAME: 'test',
      GIT_AUTHOR_EMAIL: 'test@localhost',
      GIT_COMMITTER_NAME: 'test',
      GIT_COMMITTER_EMAIL: 'test@localhost',
    };
    await sh('git init --quiet --initial-branch main "$REPO"');
    await declare(['one']);
  });
  afterEach(async () => {
    if (daemon !== undefined && daemon.exitCode === null) {
      const ended = once(daemon, 'close');
      daemon.kill('SIGTERM');
      await ended;
    }
    daemon = undefined;
    await rm(base, { recursive: true, force: true, maxRetries: 5 });
  });

  const sh = async (script: string, cwd = join(base, 'work')): Promise<{ code: number; stdout: string }> => {
    try {
      const { stdout } = await promisify(execFile)('sh', ['-c', script], { cwd, env: environment });
      return { code: 0, stdout };
    } catch (error) {
      const { code, stdout } = error as { code: number; stdout: string };
      return { code, stdout };
    }
  };
  const alice = (plugins: readonly string[]): string => `apiVersion: plugset.dev/v1alpha1
kind: Workspace
metadata: {name: alice}
spec:
  runtime: claude-code
  target: {directory: {path: '${base}/root/alice'}}
  plugins:
${plugins.map((name) => `    - {name: ${name}, source: ${name}}\n`).join('')}`;
  const write = async (text: string): Promise<void> => {
    const file = join(base, 'repo/workspaces/alice.yaml');
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
  };
  const declare = async (plugins: readonly string[]): Promise<void> => {
    await write(alice(plugins));
    await sh('git add . && git commit --quiet --message "declare"', join(base, 'repo'));
  };
  const run = (heading: string): void => {
    daemon = spawn('sh', ['-c', `exec ${recipe(heading, 'run').trim()}`], {
      cwd: join(base, 'work'),
      env: environment,
      stdio: 'ignore',
    });
  };
  const untilInstalled = (names: readonly string[]): Promise<void> =>
    eventually(async () => expect((await readdir(join(base, 'root/alice/plugins'))).toSorted()).toEqual(names));

  it('a checkout that is pulled', async () => {
    const heading = 'A checkout that is pulled';
    expect((await sh(recipe(heading, 'clone'))).code).toBe(0);
    run(heading);
    await untilInstalled(['one']);
    await declare(['one', 'two']);
    expect((await sh(recipe(heading, 'pull'))).code).toBe(0);
    await untilInstalled(['one', 'two']);
    await sh('git revert --no-edit HEAD', join(base, 'repo'));
    expect((await sh(recipe(heading, 'pull'))).code).toBe(0);
    await untilInstalled(['one']);
  });

  it('git-sync: a link that moves', async () => {
    const heading = 'git-sync';
    await sh('git clone --quiet --mirror "$REPO" mirror.git && mkdir git');
    const sync = async (): Promise<void> => {
      await sh('git -C mirror.git fetch --quiet origin "+refs/heads/*:refs/heads/*"');
      expect((await sh(recipe(heading, 'sync'))).code).toBe(0);
    };
    await sync();
    run(heading);
    await untilInstalled(['one']);
    await declare(['two']);
    await sync();
    await untilInstalled(['two']);
    await declare(['one', 'two']);
    await sync();
    await untilInstalled(['one', 'two']);
  });

  it('before the commit: what cannot be used is not committed', async () => {
    const hook = join(base, 'repo/.git/hooks/pre-commit');
    await writeFile(hook, `#!/bin/sh\n${recipe('Before the commit', 'pre-commit')}`);
    await chmod(hook, 0o755);
    await write(alice(['one']).replace('runtime', 'runtmie'));
    const refused = await sh('git add . && git commit --quiet --message "a slip" 2>&1', join(base, 'repo'));
    expect(refused.code).not.toBe(0);
    expect(refused.stdout).toMatch(/workspaces\/alice\.yaml:5:3: spec\.runtmie: unknown key/);
    await write(alice(['two']));
    expect((await sh('git add . && git commit --quiet --message "right"', join(base, 'repo'))).code).toBe(0);
  });

  it('before the merge: the plan as a comment', async () => {
    const plan = (): ReturnType<typeof sh> => sh(recipe('Before the merge', 'plan'), join(base, 'repo'));
    const comment = (): Promise<string> => readFile(join(base, 'repo/comment.md'), 'utf8');
    expect((await plan()).code).toBe(0);
    expect(await comment()).toMatch(/^This would change:\n\n```\n[^]*\+ install {2}one/);
    expect(await readdir(join(base, 'root/alice'))).toEqual([]);
    await write(alice(['nowhere']));
    expect((await plan()).code).not.toBe(0);
    expect(await comment()).toMatch(/^This could not be worked out:[^]*nowhere/);
  });

  it('shows YAML that is YAML', () => {
    const blocks = [...recipes.matchAll(/^```yaml\n([^]*?)^```/gm)].map(([, text = '']) => parse(text) as object);
    expect(blocks.map((block) => Object.keys(block)[0])).toEqual(['repos', 'on']);
  });
});
