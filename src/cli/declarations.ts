import { isUtf8 } from 'node:buffer';
import { createReadStream, type Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

import {
  MAX_FILE_BYTES,
  parseWorkspaceFile,
  unreadableFile,
  type ParsedWorkspaceFile,
} from '../adapters/files/parse-workspace-file.ts';
import { CliError, type CliContext } from './context.ts';

const STDIN = '-';
const EXTENSIONS = /\.(?:ya?ml|json)$/;

/** One file of declarations, or standard input. */
export interface DeclarationFile {
  /** As the person wrote it, for messages. */
  readonly path: string;
  readonly parsed: ParsedWorkspaceFile;
}

/**
 * Reads files, every `.yaml`, `.yml` and `.json` below directories, and standard input for `-`. What is wrong inside a
 * file is in its `parsed`; a path that cannot be read is a {@link CliError}.
 */
export async function readDeclarations(
  context: CliContext,
  paths: readonly string[],
): Promise<readonly DeclarationFile[]> {
  const files: DeclarationFile[] = [];
  for (const path of paths) {
    if (path === STDIN) files.push({ path: 'stdin', parsed: await parseStream('stdin', context.stdin) });
    else for (const file of await filesAt(path)) files.push({ path: file, parsed: await parseFile(file) });
    context.signal.throwIfAborted();
  }
  return files;
}

async function filesAt(path: string): Promise<readonly string[]> {
  if (!(await statOf(path)).isDirectory()) return [path];
  const found = await filesBelow(path);
  // A check of nothing that reports success would hide a wrong path for ever.
  if (found.length === 0) throw new CliError(`${path}: no .yaml, .yml or .json file below this directory`);
  return found;
}

/** Entries that begin with a dot belong to tools, not to people. */
async function filesBelow(dir: string): Promise<readonly string[]> {
  const names = (await readdir(dir)).filter((name) => !name.startsWith('.')).toSorted();
  const found: string[] = [];
  for (const name of names) {
    const path = join(dir, name);
    const stats = await statOf(path);
    if (stats.isDirectory()) found.push(...(await filesBelow(path)));
    else if (stats.isFile() && EXTENSIONS.test(name)) found.push(path);
  }
  return found;
}

async function statOf(path: string): Promise<Stats> {
  try {
    return await stat(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

async function parseFile(path: string): Promise<ParsedWorkspaceFile> {
  try {
    return await parseStream(path, createReadStream(path));
  } catch (error) {
    throw unreadable(path, error);
  }
}

async function parseStream(path: string, chunks: AsyncIterable<Uint8Array>): Promise<ParsedWorkspaceFile> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_FILE_BYTES) return unreadableFile(`${path}:1:1: larger than 1 MiB; refused`);
  }
  const content = Buffer.concat(parts);
  if (!isUtf8(content)) return unreadableFile(`${path}:1:1: is not UTF-8 text`);
  return parseWorkspaceFile(path, content.toString());
}

const CAUSES: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist',
  EACCES: 'may not be read',
  EISDIR: 'is a directory',
};

function unreadable(path: string, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : undefined;
  if (code === undefined) return error;
  return new CliError(`${path}: ${CAUSES[code] ?? `cannot be read (${code})`}`);
}
