import { Composer, isMap, isNode, isScalar, Lexer, LineCounter, Parser, visit, type CST, type Document } from 'yaml';

import { sha256, type Digest } from '../../domain/digest.ts';
import { checkManifest, formatPath, type ManifestProblem } from '../../domain/manifest-problems.ts';
import { isName, workspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import type { WorkspaceManifest } from '../../domain/workspace.ts';

export const MAX_FILE_BYTES = 1024 * 1024;

/** Beyond these a person reads no further, and a hostile file must not fill the log. */
const MAX_PROBLEMS = 20;

/** Aliases in a document, and also what they may expand to; a bomb needs millions, a person a dozen. */
const MAX_ALIAS_COUNT = 100;

/**
 * Nesting in one document. The composer recurses, and near the end of the stack V8 does not throw but ends the process
 * (`RegExpCompiler Allocation failed`, seen with 2000 brackets), so depth has to be counted before.
 */
const MAX_DEPTH = 100;

/**
 * Never `<<`, never YAML 1.1 and its `yes` and `!!binary`, whatever a `%YAML` line says: a declaration is JSON with
 * comments. Duplicate keys are found below; the package compares every key of a map with every other, which takes a
 * minute for a hostile megabyte.
 */
const YAML_OPTIONS = {
  version: '1.2',
  schema: 'core',
  merge: false,
  resolveKnownTags: false,
  uniqueKeys: false,
  prettyErrors: false,
  logLevel: 'silent',
} as const;

export interface ParsedManifest {
  readonly kind: 'manifest';
  readonly key: WorkspaceKey;
  readonly manifest: WorkspaceManifest;
  /** `alice.yaml:1`, where the document begins. */
  readonly origin: string;
  /** `alice.yaml:14`, by position in `spec.plugins`. */
  readonly pluginOrigins: readonly string[];
}

/** A document that cannot be used but says which workspace it means. */
export interface MalformedDocument {
  readonly kind: 'malformed';
  readonly key: WorkspaceKey;
  readonly origin: string;
  /** Of its text, so that another mistake is another generation. */
  readonly digest: Digest;
  readonly problems: readonly string[];
}

export interface ParsedWorkspaceFile {
  readonly documents: readonly (ParsedManifest | MalformedDocument)[];
  /** What cannot be put down to a workspace: text that is no YAML, a document without a readable name. */
  readonly problems: readonly string[];
  /**
   * `true`: not all of the file could be read, so it may declare more than `documents`. Nothing may be concluded
   * from what is missing in it.
   */
  readonly isPartial: boolean;
}

/**
 * Reads one file of workspaces, `---` between them. Never throws: every problem is a text `path:line:column: what is
 * wrong`. `path` is only what people see.
 */
export function parseWorkspaceFile(path: string, text: string): ParsedWorkspaceFile {
  if (Buffer.byteLength(text) > MAX_FILE_BYTES) return unreadableFile(`${path}:1:1: larger than 1 MiB; refused`);
  const lines = new LineCounter();
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${path}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  };
  const documents = composeDocuments(text, lines);
  if (documents === undefined) return unreadableFile(`${path}:1:1: nested more than ${MAX_DEPTH} levels deep; refused`);
  const outcomes = documents
    .filter((document) => !isEmpty(document))
    .map((document) => parseDocument(document, text, at));
  return {
    documents: outcomes.flatMap(({ document }) => (document === undefined ? [] : [document])),
    problems: outcomes.flatMap(({ problems }) => problems),
    isPartial: outcomes.some(({ isPartial }) => isPartial),
  };
}

/** Every problem of a file, its documents' included, in the order of a commit check. */
export function allProblems(file: ParsedWorkspaceFile): readonly string[] {
  return [
    ...new Set([...file.problems, ...file.documents.flatMap((doc) => (doc.kind === 'malformed' ? doc.problems : []))]),
  ];
}

export function unreadableFile(problem: string): ParsedWorkspaceFile {
  return { documents: [], problems: [problem], isPartial: true };
}

/** The documents of a text as syntax, comments and all; `undefined` when it is nested too deeply to be composed. */
export function composeDocuments(text: string, lines = new LineCounter()): readonly Document.Parsed[] | undefined {
  lines.addNewLine(0);
  const parser = new Parser(lines.addNewLine);
  const tokens: CST.Token[] = [];
  for (const lexeme of new Lexer().lex(text)) {
    for (const token of parser.next(lexeme)) tokens.push(token);
    if (parser.stack.length > MAX_DEPTH) return undefined;
  }
  for (const token of parser.end()) tokens.push(token);
  return [...new Composer(YAML_OPTIONS).compose(tokens)];
}

/** Nothing, or comments, between two `---`. */
export function isEmpty({ contents, errors }: Document.Parsed): boolean {
  return errors.length === 0 && (contents === null || (isScalar(contents) && contents.value === null));
}

interface DocumentOutcome {
  readonly document?: ParsedManifest | MalformedDocument;
  readonly problems: readonly string[];
  readonly isPartial: boolean;
}

type Locate = (offset: number) => string;

function parseDocument(document: Document.Parsed, text: string, at: Locate): DocumentOutcome {
  const start = document.contents?.range[0] ?? document.range[0];
  const syntax = atMost([...document.errors, ...document.warnings], (error) => `${at(error.pos[0])}: ${error.message}`);
  if (syntax.length === 0) syntax.push(...structureProblems(document, at));
  if (syntax.length > 0) return malformed(document, text, at, syntax, document.errors.length > 0);

  const value = plainValue(document);
  if (value === undefined)
    return malformed(document, text, at, [`${at(start)}: the aliases expand to too much; refused`], false);
  const checked = checkManifest(value.plain);
  if (checked.kind === 'invalid') {
    const problems = atMost(checked.problems, (problem) => formatProblem(document, problem, at));
    return malformed(document, text, at, problems, false);
  }
  const { manifest } = checked;
  const { metadata, spec } = manifest;
  const lineOf = (offset: number): string => at(offset).replace(/:\d+$/, '');
  return {
    document: {
      kind: 'manifest',
      key: workspaceKey(metadata.namespace ?? 'default', metadata.name),
      manifest,
      origin: lineOf(start),
      pluginOrigins: spec.plugins.map((_, index) => lineOf(offsetOf(document, ['spec', 'plugins', index], false))),
    },
    problems: [],
    isPartial: false,
  };
}

/** The first few as texts, and how many more there are. */
function atMost<T>(found: readonly T[], format: (problem: T) => string): string[] {
  const more = found.length - MAX_PROBLEMS;
  return [...found.slice(0, MAX_PROBLEMS).map(format), ...(more > 0 ? [`… and ${more} problems more`] : [])];
}

/** `undefined` for a bomb; every other fault of an alias was found before. */
function plainValue(document: Document.Parsed): { readonly plain: unknown } | undefined {
  try {
    return { plain: document.toJS({ maxAliasCount: MAX_ALIAS_COUNT }) };
  } catch (error) {
    if (error instanceof ReferenceError) return undefined;
    throw error;
  }
}

function malformed(
  document: Document.Parsed,
  text: string,
  at: Locate,
  problems: readonly string[],
  isPartial: boolean,
): DocumentOutcome {
  const key = readableKey(document);
  if (key === undefined) return { problems, isPartial: true };
  const [start, , end] = document.range;
  const origin = at(document.contents?.range[0] ?? start).replace(/:\d+$/, '');
  const digest = sha256('malformed\n', text.slice(start, end));
  return {
    document: { kind: 'malformed', key, origin, digest, problems },
    problems: isPartial ? problems : [],
    isPartial,
  };
}

/** The key that a document means, if its two names can be read in spite of everything. */
export function readableKey(document: Document.Parsed): WorkspaceKey | undefined {
  const metadata = isMap(document.contents) ? document.get('metadata', true) : undefined;
  if (!isMap(metadata)) return undefined;
  const name = metadata.get('name');
  const namespace = metadata.has('namespace') ? metadata.get('namespace') : 'default';
  const isReadable = typeof name === 'string' && typeof namespace === 'string' && isName(name) && isName(namespace);
  return isReadable ? workspaceKey(namespace, name) : undefined;
}

/** What is YAML and yet no plain data: duplicate keys, keys that are no text, endless or exploding aliases, infinities. */
function structureProblems(document: Document.Parsed, at: Locate): readonly string[] {
  const problems: { readonly node: unknown; readonly message: string }[] = [];
  const report = (node: unknown, message: string): void => void problems.push({ node, message });
  let aliases = 0;
  visit(document, {
    Map(_, map) {
      const seen = new Set<string>();
      for (const { key } of map.items) {
        const name = isScalar(key) ? String(key.value) : undefined;
        if (name === undefined) report(key, 'a key must be plain text');
        else if (seen.has(name)) report(key, `the key ${JSON.stringify(name)} stands here twice`);
        else seen.add(name);
      }
    },
    Alias(_, alias, ancestors) {
      aliases += 1;
      // Resolving one walks the whole document.
      const target = aliases > MAX_ALIAS_COUNT ? undefined : alias.resolve(document);
      if (aliases > MAX_ALIAS_COUNT) report(alias, `more than ${MAX_ALIAS_COUNT} aliases; refused`);
      else if (target === undefined) report(alias, `there is no anchor &${alias.source} before this alias`);
      else if (ancestors.includes(target)) report(alias, `the alias *${alias.source} contains itself`);
      return aliases > MAX_ALIAS_COUNT ? visit.BREAK : undefined;
    },
    Scalar(_, scalar) {
      if (typeof scalar.value === 'number' && !Number.isFinite(scalar.value)) report(scalar, 'must be a finite number');
    },
  });
  return atMost(problems, ({ node, message }) => `${at(isNode(node) ? (node.range?.[0] ?? 0) : 0)}: ${message}`);
}

function formatProblem(document: Document.Parsed, problem: ManifestProblem, at: Locate): string {
  const where = formatPath(problem.path);
  return `${at(offsetOf(document, problem.path, problem.isAboutKey))}: ${where === '' ? '' : `${where}: `}${problem.message}`;
}

/** Where a path stands in the text; for what is missing, its nearest surroundings. */
function offsetOf(document: Document.Parsed, path: readonly PropertyKey[], isAboutKey: boolean): number {
  const parent = document.getIn(path.slice(0, -1), true);
  const last = path.at(-1);
  if (isMap(parent)) {
    const pair = parent.items.find(({ key }) => isScalar(key) && String(key.value) === String(last));
    const node = isAboutKey || !isNode(pair?.value) ? pair?.key : pair.value;
    if (isNode(node) && node.range) return node.range[0];
  }
  const node = document.getIn(path, true);
  if (isNode(node) && node.range) return node.range[0];
  return path.length === 0 ? document.range[0] : offsetOf(document, path.slice(0, -1), true);
}
