import { PLUGINS_DIRECTORY } from '../domain/layout.ts';
import { hexOf, sha256, type Digest } from '../domain/digest.ts';
import { terminal } from '../domain/errors.ts';
import { BASE_DIRECTORY } from '../domain/loader.ts';
import { isName } from '../domain/name.ts';
import type { Receipt } from '../domain/observation.ts';
import { isPlainPath, type Expectation, type Operation, type Transaction } from '../domain/transaction.ts';
import type { TreeFile, TreeLists } from '../domain/tree.ts';
import type { Artifact } from '../ports/artifacts.ts';
import { tarEnd, tarEntry } from './tar-entry.ts';

export interface TransactionArchive {
  /** Hex digest of the file `sums`, which covers every other file of the archive, some of them through other such files. */
  readonly sumsSha256: string;
  /** The tar that apply.sh reads, made as it is consumed. */
  readonly content: AsyncIterable<Uint8Array>;
}

/** A small file of the archive. Its path starts with one of the letters that apply.sh names. */
interface StagedFile {
  readonly path: string;
  readonly mode: number;
  readonly content: Uint8Array;
}

/** Packs a transaction for apply.sh. Throws `Internal` (terminal) for one that the script would have to refuse. */
export function packTransaction(
  transaction: Transaction,
  artifacts: ReadonlyMap<Digest, Artifact>,
): TransactionArchive {
  requireSound(transaction);
  const trees = transaction.operations.flatMap((operation) => {
    if (operation.kind !== 'put-tree') return [];
    return [{ root: `t/${operation.plugin}/`, artifact: artifactOf(operation.digest, artifacts) }];
  });
  const small = [
    textFile('o', transaction.operations.map((operation, index) => operationLine(operation, index)).join('')),
    textFile(
      'a',
      transaction.operations
        .flatMap((operation) =>
          operation.kind === 'adopt-tree' ? [...comparisonLines(operation.plugin, operation.lists)] : [],
        )
        .join(''),
    ),
    ...transaction.operations.flatMap((operation, index) => stagedFiles(operation, index, artifacts)),
  ];
  const files = [
    ...small.map(({ path, content }) => ({ path, sha256: hexOf(sha256(content)), size: content.byteLength })),
    ...trees.flatMap(({ root, artifact }) => artifact.files.map((file) => ({ ...file, path: root + file.path }))),
  ];
  const sums = new Sums(files);
  const { last, behind } = sums;
  return { sumsSha256: hexOf(sha256(last.content)), content: archive(small, trees, behind, last) };
}

/** A list costs a process there, as much as it takes to hash some hundred KiB. */
const LEAST_IN_A_LIST_BYTES = 512 * 1024;

/**
 * What the files of an archive have to be, in its order: in lists that each come as soon as what they cover is there, so
 * that it is checked while the rest arrives. Each covers a third of what is left, so that little is when all has arrived.
 */
class Sums {
  /** By the path that each comes behind. */
  readonly behind = new Map<string, StagedFile>();
  #lines = '';

  constructor(files: readonly Pick<TreeFile, 'path' | 'sha256' | 'size'>[]) {
    let left = files.reduce((bytes, { size }) => bytes + size, 0);
    let covered = 0;
    for (const { path, sha256: hex, size } of files) {
      this.#lines += `${hex}  ${path}\n`;
      covered += size;
      left -= size;
      if (covered < left / 2 || Math.min(covered, left) < LEAST_IN_A_LIST_BYTES) continue;
      const list = textFile(`sums.${this.behind.size + 1}`, this.#lines);
      this.behind.set(path, list);
      this.#lines = `${hexOf(sha256(list.content))}  ${list.path}\n`;
      covered = 0;
    }
  }

  /** Closes the archive. */
  get last(): StagedFile {
    return textFile('sums', this.#lines);
  }
}

/** Lines that tell the look what to compare: `x` or `-`, and a line of `sha256sum` from the config directory. */
export function* comparisonLines(plugin: string, lists: TreeLists): Generator<string> {
  const executables = new Set(lists.executables.split('\n'));
  for (const line of lists.files.split('\n')) {
    if (line === '') continue;
    const path = line.slice(66);
    yield `${executables.has(path) ? 'x' : '-'}${line.slice(0, 66)}${PLUGINS_DIRECTORY}/${plugin}/${path}\n`;
  }
}

async function* archive(
  small: readonly StagedFile[],
  trees: readonly { readonly root: string; readonly artifact: Artifact }[],
  sumsBehind: ReadonlyMap<string, StagedFile>,
  lastSums: StagedFile,
): AsyncGenerator<Uint8Array> {
  for (const file of small) {
    yield* smallEntry(file);
    yield* smallEntry(sumsBehind.get(file.path));
  }
  for (const { root, artifact } of trees) {
    // Named, since a tree without files is a tree too.
    yield* tarEntry({ path: root, mode: 0o755, size: 0, content: [] });
    for await (const { file, content } of artifact.open()) {
      const path = root + file.path;
      yield* tarEntry({ path, mode: modeOf(file), size: file.size, content });
      yield* smallEntry(sumsBehind.get(path));
    }
  }
  yield* smallEntry(lastSums);
  yield tarEnd();
}

async function* smallEntry(file: StagedFile | undefined): AsyncGenerator<Uint8Array> {
  if (file !== undefined) yield* tarEntry({ ...file, size: file.content.byteLength, content: [file.content] });
}

function artifactOf(digest: Digest, artifacts: ReadonlyMap<Digest, Artifact>): Artifact {
  const artifact = artifacts.get(digest);
  if (artifact === undefined) throw terminal('Internal', `no content was handed over for ${digest}`);
  return artifact;
}

function modeOf(file: TreeFile): number {
  return file.executable ? 0o755 : 0o644;
}

function operationLine(operation: Operation, index: number): string {
  switch (operation.kind) {
    case 'put-tree':
      return `put ${operation.plugin} ${expectationWord(operation.expect)}\n`;
    case 'adopt-tree':
      return `adopt ${operation.plugin} ${expectationWord(operation.expect)}\n`;
    case 'remove-tree':
      return `remove ${operation.plugin} ${expectationWord(operation.expect)}\n`;
    case 'put-file':
      return `write ${index} ${expectationWord(operation.expect)} ${operation.path}\n`;
    case 'remove-file':
      return `unlink ${expectationWord(operation.expect)} ${operation.path}\n`;
    case 'copy-file':
      return (
        `copy ${index} ${operation.sha256} ${operation.from}\n` +
        `write ${index} ${expectationWord(operation.expect)} ${operation.path}\n`
      );
    case 'save-file':
      return `save ${index} ${operation.path}\n`;
    case 'remove-directory':
      return `rmdir - ${operation.path}\n`;
  }
}

function expectationWord(expect: Expectation): string {
  return expect.kind === 'sha256' ? expect.sha256 : expect.kind;
}

function stagedFiles(
  operation: Operation,
  index: number,
  artifacts: ReadonlyMap<Digest, Artifact>,
): readonly StagedFile[] {
  switch (operation.kind) {
    case 'put-tree':
      return stateFiles(operation.receipt, artifactOf(operation.digest, artifacts).lists);
    case 'adopt-tree':
      return stateFiles(operation.receipt, operation.lists);
    case 'put-file':
      return [{ path: `c/${index}`, mode: operation.mode, content: operation.content }];
    case 'remove-tree':
    case 'remove-file':
    case 'copy-file':
    case 'save-file':
    case 'remove-directory':
      return [];
  }
}

function stateFiles(receipt: Receipt, lists: TreeLists): readonly StagedFile[] {
  return [
    textFile(`files/${receipt.plugin}`, lists.files),
    textFile(`executables/${receipt.plugin}`, lists.executables),
    textFile(`receipts/${receipt.plugin}`, `${JSON.stringify(receipt)}\n`),
  ];
}

function textFile(path: string, text: string): StagedFile {
  return { path, mode: 0o644, content: Buffer.from(text) };
}

/** The script checks all of this again; here it gets a message that says which operation is wrong. */
function requireSound(transaction: Transaction): void {
  const seen = new Set<string>();
  if (!isName(transaction.id)) throw terminal('Internal', `transaction ${transaction.id}: its id is no name`);
  for (const operation of transaction.operations) {
    const problem = problemOf(operation);
    const place = placeOf(operation);
    if (problem !== undefined) throw terminal('Internal', `${operation.kind} ${place}: ${problem}`);
    if (seen.has(place)) throw terminal('Internal', `${operation.kind} ${place}: the transaction names it twice`);
    seen.add(place);
  }
}

/** Where it writes. */
function placeOf(operation: Operation): string {
  if ('plugin' in operation) return `${PLUGINS_DIRECTORY}/${operation.plugin}`;
  return operation.kind === 'save-file' ? `${BASE_DIRECTORY}/${operation.path}` : operation.path;
}

function problemOf(operation: Operation): string | undefined {
  if ('expect' in operation && operation.expect.kind === 'sha256' && !/^[0-9a-f]{64}$/.test(operation.expect.sha256)) {
    return 'the expected digest is no 64 hex digits';
  }
  if ('receipt' in operation && operation.receipt.plugin !== operation.plugin)
    return 'the receipt is for another plugin';
  if ('plugin' in operation) return isName(operation.plugin) ? undefined : 'the name breaks the grammar';
  if ('from' in operation && !(isPlainPath(operation.from) && /^[0-9a-f]{64}$/.test(operation.sha256)))
    return 'what is copied is no safe path with 64 hex digits';
  if (!isPlainPath(operation.path)) return 'the path is not safe';
  if (/^(plugins|\.plugset(?!\/(base|backup|settings)\/))(\/|$)/.test(operation.path))
    return 'the path lies where only trees go';
  return 'expect' in operation && operation.expect.kind === 'unmanaged' ? 'a file is never unmanaged' : undefined;
}
