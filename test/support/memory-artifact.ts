import { createHash } from 'node:crypto';

import { compareBytes } from '../../src/domain/digest.ts';
import { treeDigest, treeLists, type TreeFile } from '../../src/domain/tree.ts';
import { MANIFEST_PATH, parseManifest } from '../../src/plugins/manifest.ts';
import type { Artifact } from '../../src/ports/artifacts.ts';

/** A file of a plugin: its content, or that and the executable bit. */
export type FileContent = string | Uint8Array | { readonly content: string | Uint8Array; readonly executable: boolean };

/** An artifact as the cache would hand it over, without a cache. */
export function memoryArtifact(contents: Readonly<Record<string, FileContent>>): Artifact {
  const stored = Object.entries(contents)
    .toSorted(([a], [b]) => compareBytes(a, b))
    .map(([path, value]) => {
      const { content, executable } = isPlain(value) ? { content: value, executable: false } : value;
      const bytes = Buffer.from(content);
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      return { file: { path, sha256, size: bytes.byteLength, executable } satisfies TreeFile, bytes };
    });
  const files = stored.map(({ file }) => file);
  const lists = treeLists(files);
  return {
    digest: treeDigest(lists),
    files,
    lists,
    manifest: parseManifest(stored.find(({ file }) => file.path === MANIFEST_PATH)?.bytes ?? ''),
    contentBytes: files.reduce((sum, file) => sum + file.size, 0),
    async *open() {
      for (const { file, bytes } of stored) yield { file, content: pieces(bytes) };
    },
  };
}

function isPlain(value: FileContent): value is string | Uint8Array {
  return typeof value === 'string' || value instanceof Uint8Array;
}

async function* pieces(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += 65_536) yield bytes.subarray(at, at + 65_536);
}
