import { readFile } from 'node:fs/promises';

import { canonicalJson, sha256, type Digest } from '../../domain/digest.ts';
import { codeOf } from '../../domain/error-code.ts';
import type { WorkspaceKey } from '../../domain/name.ts';
import type { WorkspaceManifest } from '../../domain/workspace.ts';
import {
  MAX_FILE_BYTES,
  parseWorkspaceFile,
  unreadableFile,
  type ParsedWorkspaceFile,
} from './parse-workspace-file.ts';
import { scanDirectory, type DirectoryScan, type ScannedFile } from './scan-directory.ts';
import { unreadableRoot, type Root } from './unreadable-root.ts';

/** What the directory says about one workspace. */
export type Declared = DeclaredManifest | DeclaredMalformed;

export interface DeclaredManifest {
  readonly kind: 'manifest';
  /** Of the spec alone: what the generation stands for. */
  readonly digest: Digest;
  /** Of everything that wakes the workspace when it changes: annotations and labels, too. */
  readonly fingerprint: Digest;
  readonly manifest: WorkspaceManifest;
  readonly pluginOrigins: readonly string[];
  /** The file behind all links; several when the key is declared more than once. */
  readonly realPaths: readonly string[];
  readonly modifiedAtMs: number;
}

export interface DeclaredMalformed {
  readonly kind: 'malformed';
  readonly digest: Digest;
  readonly fingerprint: Digest;
  readonly problems: readonly string[];
  readonly realPaths: readonly string[];
  readonly modifiedAtMs: number;
}

/** The whole directory at one moment. */
export interface Snapshot {
  readonly scan: DirectoryScan;
  readonly declared: ReadonlyMap<WorkspaceKey, Declared>;
  /** What could not be put down to a workspace. */
  readonly problems: readonly string[];
  /** `false`: some of the text could not be read, so a workspace that is missing may still be declared. */
  readonly isWhole: boolean;
}

/** How often a directory that moves under our hands is read again before we wait for it to settle. */
const ATTEMPTS = 5;

/** Reads snapshots of one directory; a file that did not change is not read again. */
export class SnapshotReader {
  readonly #root: Root;
  #parsed = new Map<string, { readonly signature: string; readonly file: ParsedWorkspaceFile }>();
  #last: Snapshot | undefined;

  constructor(root: Root) {
    this.#root = root;
  }

  /** The same object as before when nothing moved. Throws `StoreUnavailable` when there is no complete snapshot to be had. */
  async read(signal: AbortSignal): Promise<Snapshot> {
    for (let attempt = 1; ; attempt += 1) {
      signal.throwIfAborted();
      try {
        const scan = await scanDirectory(this.#root.path);
        if (this.#last?.scan.signature === scan.signature) return this.#last;
        const files = await this.#readFiles(scan.files);
        // What was read belongs together only if nothing moved meanwhile.
        const after = await scanDirectory(this.#root.path);
        if (after.signature === scan.signature) return (this.#last = snapshotOf(scan, files));
        if (attempt >= ATTEMPTS) throw new Error('the directory changes faster than it can be read');
      } catch (error) {
        if (attempt >= ATTEMPTS || codeOf(error) !== 'ENOENT') {
          throw unreadableRoot(this.#root, error);
        }
      }
    }
  }

  /** Whether the directory still is what the snapshot says. */
  async isCurrent(snapshot: Snapshot): Promise<boolean> {
    const scan = await scanDirectory(this.#root.path).catch(() => undefined);
    return scan?.signature === snapshot.scan.signature;
  }

  async #readFiles(files: readonly ScannedFile[]): Promise<readonly FileContent[]> {
    const parsed = new Map<string, { readonly signature: string; readonly file: ParsedWorkspaceFile }>();
    for (const scanned of files) {
      const known = this.#parsed.get(scanned.realPath);
      // The path is part of every problem and origin, so a file that moved is read again.
      const signature = `${scanned.path} ${scanned.signature}`;
      const file = known?.signature === signature ? known.file : await readDeclarations(scanned);
      parsed.set(scanned.realPath, { signature, file });
    }
    this.#parsed = parsed;
    return files.map((scanned) => ({
      scanned,
      file: parsed.get(scanned.realPath)?.file ?? unreadableFile(scanned.path),
    }));
  }
}

interface FileContent {
  readonly scanned: ScannedFile;
  readonly file: ParsedWorkspaceFile;
}

async function readDeclarations({ path, realPath, size }: ScannedFile): Promise<ParsedWorkspaceFile> {
  if (size > MAX_FILE_BYTES) return unreadableFile(`${path}:1:1: larger than 1 MiB; refused`);
  let bytes: Buffer;
  try {
    bytes = await readFile(realPath);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'EACCES' || code === 'EPERM') return unreadableFile(`${path}:1:1: plugset may not read this file`);
    throw error;
  }
  try {
    return parseWorkspaceFile(path, new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    if (codeOf(error) !== 'ERR_ENCODING_INVALID_ENCODED_DATA') throw error;
    return unreadableFile(`${path}:1:1: not UTF-8 text`);
  }
}

type Entry = FileContent & { readonly document: ParsedWorkspaceFile['documents'][number] };

function snapshotOf(scan: DirectoryScan, contents: readonly FileContent[]): Snapshot {
  const byKey = new Map<WorkspaceKey, Entry[]>();
  for (const content of contents) {
    for (const document of content.file.documents) {
      const entries = byKey.get(document.key) ?? [];
      byKey.set(document.key, [...entries, { ...content, document }]);
    }
  }
  return {
    scan,
    declared: new Map([...byKey].map(([key, entries]) => [key, declaredBy(key, entries)])),
    problems: [...scan.problems, ...contents.flatMap(({ file }) => file.problems)],
    isWhole: scan.problems.length === 0 && contents.every(({ file }) => !file.isPartial),
  };
}

function declaredBy(key: WorkspaceKey, entries: readonly Entry[]): Declared {
  const [only, ...others] = entries;
  const common = {
    realPaths: [...new Set(entries.map(({ scanned }) => scanned.realPath))],
    modifiedAtMs: Math.max(...entries.map(({ scanned }) => scanned.modifiedAtMs)),
  };
  if (only?.document.kind === 'manifest' && others.length === 0) {
    const { manifest, pluginOrigins } = only.document;
    const digest = sha256(canonicalJson(manifest.spec));
    return {
      kind: 'manifest',
      digest,
      fingerprint: sha256(canonicalJson(manifest)),
      manifest,
      pluginOrigins,
      ...common,
    };
  }
  const origins = entries.map(({ document }) => document.origin).join(' and ');
  const problems = [
    ...(others.length > 0 ? [`${key} is declared more than once: ${origins}; remove all but one`] : []),
    ...entries.flatMap(({ document }) => (document.kind === 'malformed' ? document.problems : [])),
  ];
  const digests = entries.map(({ document }) =>
    document.kind === 'malformed' ? document.digest : sha256(canonicalJson(document.manifest)),
  );
  const digest = sha256('malformed\n', ...digests);
  return { kind: 'malformed', digest, fingerprint: sha256(digest, ...problems), problems, ...common };
}
