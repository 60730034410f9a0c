import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, cp, lstat, mkdir, mkdtemp, readlink, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, delimiter, dirname, join, resolve } from 'node:path';

import type Docker from 'dockerode';

import { TEST_LABEL } from './docker-client.ts';
import { librariesOf } from './docker-images.ts';

/** An image made of this machine's own programs, in the place of one that would be pulled. */
export interface HostTree {
  readonly name: string;
  /** By name or path; with the libraries they load. */
  readonly programs: readonly string[];
  /** Files and directories under the same path. */
  readonly paths?: readonly string[];
  /** Files and directories under another one: from, to. */
  readonly moved?: readonly (readonly [from: string, to: string])[];
  /** Made for it: path and content. */
  readonly files?: Readonly<Record<string, string>>;
  /** Directories that everybody may write to. */
  readonly open?: readonly string[];
  /** Lines of a Dockerfile: ENV, LABEL … */
  readonly changes?: readonly string[];
}

/** Imports the tree under its name. A program that this machine lacks is an error. */
export async function importHostTree(docker: Docker, tree: HostTree): Promise<void> {
  const stage = await mkdtemp(join(tmpdir(), 'plugset-tree-'));
  try {
    await fill(stage, tree);
    const tar = spawn('tar', ['-C', stage, '--owner=0', '--group=0', '-c', '.'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const changes = [`LABEL ${TEST_LABEL}=image`, ...(tree.changes ?? [])].join('\n');
    const [repo, tag = 'latest'] = tree.name.split(':');
    const progress = await docker.importImage(tar.stdout, { repo, tag, changes });
    await followed(docker, progress);
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}

function followed(docker: Docker, progress: NodeJS.ReadableStream): Promise<void> {
  return new Promise((settle, reject) =>
    docker.modem.followProgress(progress, (error) => (error ? reject(error) : settle())),
  );
}

async function fill(
  stage: string,
  { programs, paths = [], moved = [], files = {}, open = [] }: HostTree,
): Promise<void> {
  for (const dir of ['usr/bin', 'usr/sbin', 'usr/lib', 'usr/lib64', 'etc', 'proc', 'sys', 'dev', 'root', 'var'])
    await mkdir(join(stage, dir), { recursive: true });
  for (const dir of ['tmp', ...open]) {
    await mkdir(join(stage, dir), { recursive: true });
    await chmod(join(stage, dir), 0o1777);
  }
  // As on every Debian since 12.
  for (const dir of ['bin', 'sbin', 'lib', 'lib64']) await symlink(`usr/${dir}`, join(stage, dir));
  const found = programs.map(findProgram);
  const libraries = new Set([...found, ...moved.map(([from]) => from)].flatMap((path) => librariesOf(path)));
  for (const path of [...found, ...libraries, ...paths]) await copy(path, stage);
  for (const [from, to] of moved) await cp(from, join(stage, to), { recursive: true, verbatimSymlinks: true });
  for (const [path, content] of Object.entries({ 'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\n', ...files }))
    await writeFile(join(stage, path), content);
}

/** Where a program is, as a shell would find it; links are not followed. */
export function findProgram(program: string): string {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
  const path = directories.map((directory) => resolve(directory, program)).find((candidate) => existsSync(candidate));
  if (path === undefined) throw new Error(`this machine has no ${program} to make an image of`);
  return path;
}

/** With what it links to, link by link; the directories above it are taken for what they really are. */
async function copy(path: string, stage: string): Promise<void> {
  const place = join(await realpath(dirname(path)), basename(path));
  await mkdir(join(stage, dirname(place)), { recursive: true });
  await cp(place, join(stage, place), { recursive: true, verbatimSymlinks: true });
  if ((await lstat(place)).isSymbolicLink()) await copy(resolve(dirname(place), await readlink(place)), stage);
}
