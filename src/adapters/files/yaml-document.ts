import {
  Composer,
  Document,
  isMap,
  isNode,
  isScalar,
  Lexer,
  LineCounter,
  Parser,
  visit,
  type CST,
  type ParsedNode,
} from 'yaml';

import { formatPath, type SchemaProblem } from '../../domain/schema-problems.ts';

/** Beyond these a person reads no further, and a hostile file must not fill the log. */
const MAX_PROBLEMS = 20;

/** Aliases in a document, and also what they may expand to; a bomb needs millions, a person a dozen. */
const MAX_ALIAS_COUNT = 100;

/**
 * Nesting in one document. The composer recurses, and near the end of the stack V8 does not throw but ends the process
 * (`RegExpCompiler Allocation failed`, seen with 2000 brackets), so depth has to be counted before.
 */
export const MAX_DEPTH = 100;

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

/** `path:line:column` of an offset in the text. */
export type Locate = (offset: number) => string;

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

/** A part of a document as one by itself; its places stay those in the text. */
export function documentOf(node: ParsedNode): Document.Parsed {
  return Object.assign(new Document(null, YAML_OPTIONS), { contents: node, range: node.range }) as Document.Parsed;
}

/** Nothing, or comments, between two `---`. */
export function isEmpty({ contents, errors }: Document.Parsed): boolean {
  return errors.length === 0 && (contents === null || (isScalar(contents) && contents.value === null));
}

/** The first few as texts, and how many more there are. */
export function atMost<T>(found: readonly T[], format: (problem: T) => string): string[] {
  const more = found.length - MAX_PROBLEMS;
  return [...found.slice(0, MAX_PROBLEMS).map(format), ...(more > 0 ? [`… and ${more} problems more`] : [])];
}

/** `undefined` for a bomb; every other fault of an alias was found before. */
export function plainValue(document: Document.Parsed): { readonly plain: unknown } | undefined {
  try {
    return { plain: document.toJS({ maxAliasCount: MAX_ALIAS_COUNT }) };
  } catch (error) {
    if (error instanceof ReferenceError) return undefined;
    throw error;
  }
}

/** What is YAML and yet no plain data: duplicate keys, keys that are no text, endless or exploding aliases, infinities. */
export function structureProblems(document: Document.Parsed, at: Locate): readonly string[] {
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

export function formatProblem(document: Document.Parsed, problem: SchemaProblem, at: Locate): string {
  const where = formatPath(problem.path);
  return `${at(offsetOf(document, problem.path, problem.isAboutKey))}: ${where === '' ? '' : `${where}: `}${problem.message}`;
}

/** Where a path stands in the text; for what is missing, its nearest surroundings. */
export function offsetOf(document: Document.Parsed, path: readonly PropertyKey[], isAboutKey: boolean): number {
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
