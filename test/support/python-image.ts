import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import type Docker from 'dockerode';

import { TEST_LABEL } from './docker-client.ts';

const REPOSITORY = 'plugset-test-python';

/**
 * A small Debian with Python, made by debootstrap in a minute unless this engine has it; answers its name. What it takes
 * comes from where this machine's own packages come from.
 */
export async function ensurePythonImage(docker: Docker): Promise<string> {
  const name = `${REPOSITORY}:latest`;
  const images = await docker.listImages({ filters: { reference: [name] } });
  if (images.length > 0) return name;
  const dir = await mkdtemp(join(tmpdir(), 'plugset-python-'));
  try {
    process.stderr.write('debootstrap: an image with Python, about a minute\n');
    await promisify(execFile)('debootstrap', ['--variant=minbase', '--include=python3', 'bookworm', dir], {
      maxBuffer: 16 * 1024 * 1024,
    });
    const left = ['./dev/*', './proc/*', './sys/*', './var/cache/*', './var/lib/apt/*', './usr/share/doc/*'];
    const tar = spawn('tar', ['-C', dir, ...left.map((path) => `--exclude=${path}`), '-cf', '-', '.'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const options = { repo: REPOSITORY, tag: 'latest', changes: `LABEL ${TEST_LABEL}=image` };
    const progress: NodeJS.ReadableStream = await docker.importImage(tar.stdout, options);
    await new Promise((resolve, reject) =>
      docker.modem.followProgress(progress, (error) => (error ? reject(error) : resolve(undefined))),
    );
    return name;
  } finally {
    await rm(dir, { recursive: true, force: true, maxRetries: 3 });
  }
}
