import { execFile, execFileSync } from 'node:child_process';
import { dirname } from 'node:path';
import { realpath } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import type Docker from 'dockerode';

import { TEST_LABEL } from './docker-client.ts';
import { SHELL_TOOLS } from './docker-images.ts';
import { findProgram, importHostTree } from './host-tree.ts';

const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export const BASE_IMAGE = 'plugset-test-base';

/** Builds the image of the Dockerfile as people do, on a base made of this machine's Node, git and shell. */
export async function buildPlugsetImage(docker: Docker, engine: string, version: string): Promise<string> {
  await importBase(docker);
  const argv = ['build', '--network=host', `--label=${TEST_LABEL}=image`, '--tag=plugset-test-image'];
  const args = { BASE: BASE_IMAGE, VERSION: version, REVISION: 'of-a-test' };
  for (const [name, value] of Object.entries(args)) argv.push(`--build-arg=${name}=${value}`);
  // BuildKit would need the network of its own that this engine does not have; the plain builder is the stricter reader.
  const env = { ...process.env, DOCKER_HOST: engine, DOCKER_BUILDKIT: '0' };
  try {
    await promisify(execFile)('docker', [...argv, '.'], { cwd: ROOT, env, maxBuffer: 64 * 1024 * 1024 });
  } catch (error) {
    throw new Error(`the image was not built:\n${(error as { stdout: string }).stdout.slice(-3000)}`, { cause: error });
  }
  return 'plugset-test-image';
}

/** What `node:20-bookworm-slim` has, and git, ssh and tini, with the way of this machine to its npm registry. */
async function importBase(docker: Docker): Promise<void> {
  const npm = findProgram('npm');
  const registry = execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8' }).trim();
  await importHostTree(docker, {
    name: BASE_IMAGE,
    programs: [...SHELL_TOOLS, 'git', 'ssh', 'tini'],
    paths: ['/usr/lib/git-core', '/usr/share/git-core', CERTIFICATES],
    moved: [
      [process.execPath, 'usr/local/bin/node'],
      // A relative link, into the directory that comes next.
      [npm, 'usr/local/bin/npm'],
      [dirname(dirname(await realpath(npm))), 'usr/local/lib/node_modules/npm'],
    ],
    changes: [
      'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      `ENV npm_config_registry=${registry} NODE_EXTRA_CA_CERTS=${CERTIFICATES}`,
    ],
  });
}
