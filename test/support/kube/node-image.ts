import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';

import { pack } from 'tar-stream';

import { packImage, type TestImage } from '../docker-images.ts';

/** What pods of tests call it. Nothing is pulled: `imagePullPolicy: Never`. */
export function imageName(image: TestImage): string {
  return `plugset.test/${image}:1`;
}

/** Writes the image as `docker save` would. It sleeps unless told otherwise, so that it also serves as the pause image. */
export async function writeImageArchive(image: TestImage, path: string): Promise<void> {
  const layer = await buffer(packImage(image));
  const config = JSON.stringify({
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Env: ['PATH=/bin'], Cmd: ['/bin/sleep', '1000000'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${createHash('sha256').update(layer).digest('hex')}`] },
  });
  const manifest = [{ Config: 'config.json', RepoTags: [imageName(image)], Layers: ['layer.tar'] }];
  const archive = pack();
  archive.entry({ name: 'layer.tar' }, layer);
  archive.entry({ name: 'config.json' }, config);
  archive.entry({ name: 'manifest.json' }, JSON.stringify(manifest));
  archive.finalize();
  await writeFile(path, await buffer(archive));
}
