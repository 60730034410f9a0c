import { execFile, type ExecFileException } from 'node:child_process';

import type { Pack } from 'tar-stream';

import { findBusybox, packImage } from '../../test/support/docker-images.ts';
import type { Place } from './place.ts';

/** The engine that runs the example containers. */
export interface Engine {
  readonly address: string;
  readonly version: string;
}

/** By this label they are found again, also by the start after a crash. */
const LABEL = 'dev.plugset.demo';
const TIMEOUT_MS = 30_000;
/** No image can be pulled or made of a host that is not Linux; one of these may be there. */
const SMALL_IMAGES = ['busybox', 'alpine'];

/** The engine that the docker command talks to, or why it is of no use. */
export async function findEngine(): Promise<Engine | { readonly missing: string }> {
  try {
    const [os, version = ''] = (await docker(['version', '--format', '{{.Server.Os}} {{.Server.Version}}'])).split(' ');
    const address =
      process.env['DOCKER_HOST'] ?? (await docker(['context', 'inspect', '--format', '{{.Endpoints.docker.Host}}']));
    if (os !== 'linux') return { missing: `the Docker engine runs ${os} containers` };
    if (!/^(?:unix|tcp):/.test(address) || process.env['DOCKER_TLS_VERIFY'] !== undefined) {
      return { missing: `the Docker engine at ${address} is reached by a way that plugset does not know yet` };
    }
    return { address, version };
  } catch (error) {
    return { missing: (error as Error).message };
  }
}

/** Starts one container for each id, labelled as the workspace's; answers what went wrong, if anything. */
export async function makeContainers(place: Place, ids: readonly string[]): Promise<string | undefined> {
  try {
    const image = await ensureImage(place);
    for (const id of ids) {
      const labels = ['--label', `plugset.dev/workspace=${id}`, '--label', `${LABEL}=${place.suffix}`];
      await docker(['run', '--detach', '--name', id, ...labels, '--network', 'none', image, 'sleep', '2147483']);
      await docker(['exec', id, 'mkdir', '-p', '/configs']);
    }
    return undefined;
  } catch (error) {
    await removeContainers(place);
    return (error as Error).message;
  }
}

/** Containers and image of this start, or of the one before it. */
export async function removeContainers(place: Place): Promise<void> {
  const filter = ['--filter', `label=${LABEL}=${place.suffix}`];
  const containers = (await docker(['ps', '--all', '--quiet', ...filter])).split('\n').filter(Boolean);
  if (containers.length > 0) await docker(['rm', '--force', '--volumes', ...containers]);
  const images = (await docker(['images', '--quiet', ...filter])).split('\n').filter(Boolean);
  if (images.length > 0) await docker(['rmi', '--force', ...images]);
}

/** Made of programs that this machine has: nothing is pulled. */
async function ensureImage(place: Place): Promise<string> {
  if (process.platform === 'linux') {
    const name = `plugset-demo-${place.suffix}`;
    const files = packImage(findBusybox() === undefined ? 'debian' : 'busybox');
    await docker(['import', '--change', `LABEL ${LABEL}=${place.suffix}`, '-', name], files);
    return name;
  }
  for (const name of SMALL_IMAGES) {
    const id = await docker(['images', '--quiet', name]);
    if (id !== '') return name;
  }
  throw new Error(
    `no image can be made here, and the engine has none of ${SMALL_IMAGES.join(', ')} (docker pull busybox)`,
  );
}

function docker(argv: readonly string[], stdin?: Pack): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile('docker', argv, { timeout: TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout.trim());
      else reject(explained(error, stderr));
    });
    if (stdin === undefined || child.stdin === null) return;
    // What went wrong is in the exit code.
    child.stdin.on('error', () => undefined);
    stdin.pipe(child.stdin);
  });
}

function explained(error: ExecFileException, stderr: string): Error {
  if (error.code === 'ENOENT') return new Error('there is no docker command');
  if (error.killed === true) return new Error('the Docker engine does not answer in time');
  return new Error(stderr.trim().split('\n')[0] ?? error.message, { cause: error });
}
