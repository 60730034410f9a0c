import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';

import type Docker from 'dockerode';
import { pack, type Pack } from 'tar-stream';

import { TEST_LABEL } from './docker-client.ts';

/**
 * - `busybox`: Debian's static busybox and nothing else (no flock, no awk of its own)
 * - `debian`: the host's own shell (dash on Debian), coreutils, findutils, GNU tar, grep, sed, awk, flock
 */
export type TestImage = 'busybox' | 'debian';

export const SHELL_TOOLS = [
  'sh',
  'bash',
  'tar',
  'gzip',
  'find',
  'grep',
  'sed',
  'awk',
  'flock',
  'sha256sum',
  'cat',
  'chmod',
  'chown',
  'cp',
  'cut',
  'date',
  'dd',
  'df',
  'dirname',
  'basename',
  'env',
  'head',
  'id',
  'ln',
  'ls',
  'mkdir',
  'mkfifo',
  'mktemp',
  'mv',
  'od',
  'printf',
  'readlink',
  'rm',
  'rmdir',
  'mount',
  'setpriv',
  'setsid',
  'sleep',
  'sort',
  'stat',
  'sync',
  'tail',
  'tee',
  'test',
  'timeout',
  'touch',
  'tr',
  'true',
  'false',
  'uname',
  'wc',
  'yes',
  'ps',
] as const;

/** Makes the image in this engine unless it is there; answers its name. */
export async function ensureImage(docker: Docker, image: TestImage): Promise<string> {
  const name = `plugset-test-${image}:latest`;
  if (await hasImage(docker, name)) return name;
  const [repo, tag] = name.split(':');
  const options = { repo, tag, changes: `LABEL ${TEST_LABEL}=image` };
  const progress: NodeJS.ReadableStream = await docker.importImage(packImage(image) as never, options);
  await new Promise((resolve, reject) =>
    docker.modem.followProgress(progress, (error) => (error ? reject(error) : resolve(undefined))),
  );
  return name;
}

/** The files of an image, as `docker import` takes them. */
export function packImage(image: TestImage): Pack {
  const tar = pack();
  fillBase(tar);
  if (image === 'busybox') fillBusybox(tar);
  else fillFromHost(tar);
  tar.finalize();
  return tar;
}

export function findBusybox(): string | undefined {
  const path = onPath('busybox');
  if (path === undefined) return undefined;
  return isStatic(path) ? path : undefined;
}

async function hasImage(docker: Docker, name: string): Promise<boolean> {
  const images = await docker.listImages({ filters: { reference: [name] } });
  return images.length > 0;
}

function fillBase(tar: Pack): void {
  for (const name of ['bin', 'etc', 'tmp', 'root', 'configs', 'proc', 'sys', 'dev']) {
    tar.entry({ name, type: 'directory', mode: name === 'tmp' ? 0o1777 : 0o755 });
  }
  tar.entry({ name: 'etc/passwd' }, 'root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000::/tmp:/bin/sh\n');
  tar.entry({ name: 'etc/group' }, 'root:x:0:\nagent:x:1000:\n');
}

function fillBusybox(tar: Pack): void {
  const busybox = findBusybox();
  if (busybox === undefined) throw new Error('there is no static busybox to make an image of');
  tar.entry({ name: 'bin/busybox', mode: 0o755 }, readFileSync(busybox));
  for (const applet of execFileSync(busybox, ['--list'], { encoding: 'utf8' }).trim().split('\n')) {
    if (applet !== 'busybox') tar.entry({ name: `bin/${applet}`, type: 'symlink', linkname: 'busybox' });
  }
}

function fillFromHost(tar: Pack): void {
  const libraries = new Set<string>();
  for (const program of SHELL_TOOLS) {
    const path = onPath(program);
    if (path === undefined) continue;
    tar.entry({ name: `bin/${program}`, mode: 0o755 }, readFileSync(path));
    for (const library of librariesOf(path)) libraries.add(library);
  }
  const made = new Set<string>();
  for (const library of libraries) {
    makeDirectories(tar, dirname(library).slice(1), made);
    tar.entry({ name: library.slice(1), mode: 0o755 }, readFileSync(library));
  }
}

/** Every library that the loader would take, the loader included. */
export function librariesOf(program: string): readonly string[] {
  const { stdout } = spawnSync('ldd', [program], { encoding: 'utf8' });
  return [...stdout.matchAll(/(?:^|\s)(\/\S+)/g)].map(([, path = '']) => path);
}

function makeDirectories(tar: Pack, path: string, made: Set<string>): void {
  if (path === '.' || made.has(path)) return;
  makeDirectories(tar, dirname(path), made);
  made.add(path);
  tar.entry({ name: path, type: 'directory', mode: 0o755 });
}

function onPath(program: string): string | undefined {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/bin', '/bin'];
  const found = directories.map((directory) => join(directory, program)).find((path) => existsSync(path));
  return found === undefined ? undefined : realpathSync(found);
}

function isStatic(path: string): boolean {
  return /not a dynamic executable|statically linked/.test(
    Object.values(spawnSync('ldd', [path], { encoding: 'utf8' })).join(' '),
  );
}
