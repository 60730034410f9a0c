import { PLUGINS_DIRECTORY } from '../domain/layout.ts';
import { hexOf, sha256, type Digest } from '../domain/digest.ts';
import { terminal } from '../domain/errors.ts';
import { isName } from '../domain/name.ts';
import type { Receipt } from '../domain/observation.ts';
import { isSafePath, type Expectation, type Operation, type Transaction } from '../domain/transaction.ts';
import type { TreeFile, TreeLists } from '../domain/tree.ts';
import type { Artifact } from '../ports/artifacts.ts';
import { tarEnd, tarEntry } from './tar-entry.ts';

export interface TransactionArchive {
  /** Hex digest of the file `sums`, which covers every other file of the archive. */
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
  const sums = [
    ...small.map((file) => `${hexOf(sha256(file.content))}  ${file.path}\n`),
    ...trees.flatMap(({ root, artifact }) => artifact.files.map((file) => `${file.sha256}  ${root}${file.path}\n`)),
  ].join('');
  return {
    sumsSha256: hexOf(sha256(sums)),
    content: archive([textFile('sums', sums), ...small], trees),
  };
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
): AsyncGenerator<Uint8Array> {
  for (const file of small) yield* tarEntry({ ...file, size: file.content.byteLength, content: [file.content] });
  for (const { root, artifact } of trees) {
    // Named, since a tree without files is a tree too.
    yield* tarEntry({ path: root, mode: 0o755, size: 0, content: [] });
    for await (const { file, content } of artifact.open()) {
      yield* tarEntry({ path: root + file.path, mode: modeOf(file), size: file.size, content });
    }
  }
  yield tarEnd();
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
    const place = 'plugin' in operation ? `${PLUGINS_DIRECTORY}/${operation.plugin}` : operation.path;
    if (problem !== undefined) throw terminal('Internal', `${operation.kind} ${place}: ${problem}`);
    if (seen.has(place)) throw terminal('Internal', `${operation.kind} ${place}: the transaction names it twice`);
    seen.add(place);
  }
}

function problemOf(operation: Operation): string | undefined {
  if ('expect' in operation && operation.expect.kind === 'sha256' && !/^[0-9a-f]{64}$/.test(operation.expect.sha256)) {
    return 'the expected digest is no 64 hex digits';
  }
  if ('receipt' in operation && operation.receipt.plugin !== operation.plugin)
    return 'the receipt is for another plugin';
  if ('plugin' in operation) return isName(operation.plugin) ? undefined : 'the name breaks the grammar';
  if (!isSafePath(operation.path) || operation.path !== operation.path.trim()) return 'the path is not safe';
  if (/^(plugins|\.plugset)(\/|$)/.test(operation.path)) return 'the path lies where only trees go';
  return operation.expect.kind === 'unmanaged' ? 'a file is never unmanaged' : undefined;
}
