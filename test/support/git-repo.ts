import { execFile } from 'node:child_process';
import { chmod, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What goes into a commit: content, content of an executable, or the target of a link. */
export type TestFile = string | Uint8Array | { readonly executable: string } | { readonly link: string };

const ENV = {
  PATH: process.env['PATH'] ?? '/usr/bin:/bin',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'test',
  GIT_AUTHOR_EMAIL: 'test@example.com',
  GIT_COMMITTER_NAME: 'test',
  GIT_COMMITTER_EMAIL: 'test@example.com',
};

/** A real bare repository, and a working copy beside it to write it from. */
export class GitRepo {
  readonly bare: string;
  readonly work: string;

  private constructor(bare: string, work: string) {
    this.bare = bare;
    this.work = work;
  }

  /** Makes `<path>.git` and `<path>.work`. */
  static async create(path: string, objectFormat: 'sha1' | 'sha256' = 'sha1'): Promise<GitRepo> {
    const repo = new GitRepo(`${path}.git`, `${path}.work`);
    await mkdir(dirname(path), { recursive: true });
    const init = ['init', '--quiet', `--object-format=${objectFormat}`, '--initial-branch=main'];
    await run('git', [...init, '--bare', repo.bare], { env: ENV });
    await run('git', [...init, repo.work], { env: ENV });
    return repo;
  }

  async git(...args: readonly string[]): Promise<string> {
    const { stdout } = await run('git', ['-C', this.work, ...args], { env: ENV });
    return stdout.trim();
  }

  /** Replaces everything by these files, commits and pushes to a branch; returns the commit. */
  async commit(files: Readonly<Record<string, TestFile>>, branch = 'main'): Promise<string> {
    for (const name of await readdir(this.work)) {
      if (name !== '.git') await rm(join(this.work, name), { recursive: true });
    }
    await writeTree(this.work, files);
    await this.git('add', '--all', '--force');
    await this.git('commit', '--quiet', '--allow-empty', '-m', 'test');
    return this.push(branch);
  }

  async push(branch = 'main'): Promise<string> {
    await this.git('push', '--quiet', '--force', this.bare, `HEAD:refs/heads/${branch}`);
    return this.git('rev-parse', 'HEAD');
  }

  /** Tags what was committed last. */
  async tag(name: string, kind: 'light' | 'annotated' = 'light'): Promise<void> {
    await this.git('tag', ...(kind === 'annotated' ? ['-a', '-m', name] : []), name);
    await this.git('push', '--quiet', this.bare, `refs/tags/${name}`);
  }
}

export async function writeTree(dir: string, files: Readonly<Record<string, TestFile>>): Promise<void> {
  for (const [path, file] of Object.entries(files)) {
    const absolute = join(dir, path);
    await mkdir(dirname(absolute), { recursive: true });
    if (typeof file === 'string' || file instanceof Uint8Array) await writeFile(absolute, file);
    else if ('link' in file) await symlink(file.link, absolute);
    else {
      await writeFile(absolute, file.executable);
      await chmod(absolute, 0o755);
    }
  }
}
