import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';

import {
  MAX_FILE_BYTES,
  parseWorkspaceFile,
  unreadableFile,
  type ParsedWorkspaceFile,
  type ParseOptions,
} from '../adapters/files/parse-workspace-file.ts';
import { scanDirectory } from '../adapters/files/scan-directory.ts';
import { CliError, type CliContext } from './context.ts';

const STDIN = '-';

/** One file of declarations, or standard input. */
export interface DeclarationFile {
  /** As the person wrote it, for messages. */
  readonly path: string;
  readonly parsed: ParsedWorkspaceFile;
}

/**
 * Reads files, standard input for `-`, and of directories what the store of files would read of them. What is wrong
 * inside a file is in its `parsed`; a path that cannot be read is a {@link CliError}.
 */
export async function readDeclarations(
  context: CliContext,
  paths: readonly string[],
  options: ParseOptions = {},
): Promise<readonly DeclarationFile[]> {
  const files: DeclarationFile[] = [];
  for (const path of paths) {
    files.push(...(await readOne(context, path, options)));
    context.signal.throwIfAborted();
  }
  return files;
}

async function readOne(context: CliContext, path: string, options: ParseOptions): Promise<readonly DeclarationFile[]> {
  if (path === STDIN) return [{ path: 'stdin', parsed: await parseStream('stdin', context.stdin, options) }];
  try {
    if ((await stat(path)).isDirectory()) return await readDirectory(path, options);
    return [{ path, parsed: await parseStream(path, createReadStream(path), options) }];
  } catch (error) {
    throw unreadable(path, error);
  }
}

async function readDirectory(dir: string, options: ParseOptions): Promise<readonly DeclarationFile[]> {
  const scan = await scanDirectory(dir);
  // A check of nothing that reports success would hide a wrong path for ever.
  if (scan.files.length + scan.problems.length === 0)
    throw new CliError(`${dir}: no .yaml or .yml file below this directory`);
  const below = (rest: string): string => `${dir.replace(/(?<=.)\/+$/, '')}/${rest}`;
  const files: DeclarationFile[] = scan.problems.map((problem) => ({
    path: dir,
    parsed: unreadableFile(below(problem)),
  }));
  for (const file of scan.files) {
    const path = below(file.path);
    files.push({ path, parsed: await parseStream(path, createReadStream(file.realPath), options) });
  }
  return files;
}

async function parseStream(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  options: ParseOptions,
): Promise<ParsedWorkspaceFile> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_FILE_BYTES) return unreadableFile(`${path}:1:1: larger than 1 MiB; refused`);
  }
  const content = Buffer.concat(parts);
  if (!isUtf8(content)) return unreadableFile(`${path}:1:1: is not UTF-8 text`);
  return parseWorkspaceFile(path, content.toString(), options);
}

const CAUSES: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist',
  EACCES: 'may not be read',
  EISDIR: 'is a directory',
};

export function unreadable(path: string, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : undefined;
  if (code === undefined) return error;
  return new CliError(`${path}: ${CAUSES[code] ?? `cannot be read (${code})`}`);
}
