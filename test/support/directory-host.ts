import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, realpath, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { DirectoryWorkspaceTarget } from '../../src/adapters/directory/directory-workspace-target.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { ScriptedPluginHost } from '../../src/plugins/plugin-host.ts';
import type { PluginHostBackend } from '../contract/plugin-host.ts';

const run = promisify(execFile);

/** Everything that the scripts may call; they find nothing else. */
export const TOOLS = [
  'awk',
  'cat',
  'chmod',
  'cp',
  'find',
  'flock',
  'mkdir',
  'mkfifo',
  'mv',
  'rm',
  'rmdir',
  'sh',
  'sha256sum',
  'sleep',
  'stat',
  'sync',
  'tar',
] as const;
const PROGRAMS = '/usr/bin:/bin';
const AGENT = 1000;

export const IS_ROOT = process.getuid?.() === 0;

export type Programs = Readonly<Record<string, string | undefined>>;

export const BUSYBOX = '/bin/busybox';

export interface DirectoryHostOptions {
  /** Tools that are other programs than those of the machine, e.g. `sh: '/bin/dash'`, or that are missing. */
  readonly programs: Programs;
  /** A file system of its own of 1 MiB; takes root. */
  readonly disk: 'shared' | 'own';
}

/**
 * A config directory in a temporary place, and a PATH of links that only this test has. As root everything that an agent
 * does is done by another user.
 */
export async function createDirectoryHost(
  options: DirectoryHostOptions,
): Promise<PluginHostBackend & { readonly bin: string }> {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'plugset-host-')));
  const configDir = join(root, 'config');
  const bin = join(root, 'bin');
  const owner = IS_ROOT ? { uid: AGENT, gid: AGENT } : { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  await chmod(root, 0o755);
  await mkdir(configDir);
  await linkPrograms(bin, options.programs);
  if (options.disk === 'own') await run('mount', ['-t', 'tmpfs', '-o', 'size=1m,nr_inodes=400', 'tmpfs', configDir]);
  await chown(configDir, owner.uid, owner.gid);
  const target = new DirectoryWorkspaceTarget({
    path: configDir,
    identity: await identityOf(configDir),
    searchPath: bin,
    clock: new SystemClock(),
  });
  return {
    host: new ScriptedPluginHost(),
    target,
    configDir,
    owner,
    bin,
    async shell(script, as = 'agent') {
      const ids = as === 'agent' && IS_ROOT ? owner : {};
      const env = { PATH: PROGRAMS, LC_ALL: 'C' };
      return (await run('/bin/sh', ['-euc', script], { cwd: configDir, env, maxBuffer: 64 * 1024 * 1024, ...ids }))
        .stdout;
    },
    async hide(program) {
      await rm(join(bin, program));
    },
    async seal() {
      await run('mount', ['-o', 'remount,ro', configDir]);
    },
    async dispose() {
      if (options.disk === 'own') await run('umount', [configDir]);
      await rm(root, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

async function linkPrograms(bin: string, programs: Programs): Promise<void> {
  const links = TOOLS.map((tool) => [tool, tool in programs ? programs[tool] : `/usr/bin/${tool}`] as const);
  await mkdir(bin);
  for (const [tool, path] of links) if (path !== undefined) await symlink(path, join(bin, tool));
}

/** Every applet of the busybox of this machine; where there is none, a program that does not exist. */
export function busyboxTools(): Programs {
  if (!existsSync(BUSYBOX)) return { busybox: BUSYBOX };
  const applets = execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).trim().split('\n');
  return Object.fromEntries(applets.map((applet) => [applet, BUSYBOX]));
}

/** What a provider would have found. */
async function identityOf(directory: string): Promise<string> {
  const { dev, ino } = await stat(directory, { bigint: true });
  return `directory:${dev}:${ino}`;
}
