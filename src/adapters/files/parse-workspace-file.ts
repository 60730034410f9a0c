import { isMap, isSeq, LineCounter, type Document, type ParsedNode } from 'yaml';

import { sha256, type Digest } from '../../domain/digest.ts';
import { isName, workspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { isReadOnlyField, withoutReadOnlyFields } from '../../domain/read-only-fields.ts';
import { checkSchema, type SchemaProblem } from '../../domain/schema-problems.ts';
import { workspaceSchema, type WorkspaceManifest } from '../../domain/workspace.ts';
import {
  atMost,
  composeDocuments,
  documentOf,
  formatProblem,
  isEmpty,
  MAX_DEPTH,
  offsetOf,
  plainValue,
  structureProblems,
  type Locate,
} from './yaml-document.ts';

export const MAX_FILE_BYTES = 1024 * 1024;

export interface ParsedManifest {
  readonly kind: 'manifest';
  readonly key: WorkspaceKey;
  readonly manifest: WorkspaceManifest;
  /** `alice.yaml:1`, where the document begins. */
  readonly origin: string;
  /** `alice.yaml:14`, by position in `spec.plugins`. */
  readonly pluginOrigins: readonly string[];
  /** `alice.yaml:5:12`, where the value of `spec.runtime` stands. */
  readonly runtimeAt: string;
  readonly targetAt: string;
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

export interface ParseOptions {
  /**
   * Takes what `plugset status -o yaml` prints: passes over what only plugset writes (`status`, `metadata.generation`, …)
   * and reads a List as the objects in it. Default: both are problems.
   */
  readonly takesPrinted?: boolean;
}

/**
 * Reads one file of workspaces, `---` between them. Never throws: every problem is a text `path:line:column: what is
 * wrong`. `path` is only what people see.
 */
export function parseWorkspaceFile(path: string, text: string, options: ParseOptions = {}): ParsedWorkspaceFile {
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
    .flatMap((document) => (options.takesPrinted === true ? itemsOf(document) : [document]))
    .map((document) => parseDocument(document, text, at, options));
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

interface DocumentOutcome {
  readonly document?: ParsedManifest | MalformedDocument;
  readonly problems: readonly string[];
  readonly isPartial: boolean;
}

function parseDocument(
  document: Document.Parsed,
  text: string,
  at: Locate,
  { takesPrinted = false }: ParseOptions,
): DocumentOutcome {
  const start = document.contents?.range[0] ?? document.range[0];
  const syntax = atMost([...document.errors, ...document.warnings], (error) => `${at(error.pos[0])}: ${error.message}`);
  if (syntax.length === 0) syntax.push(...structureProblems(document, at));
  if (syntax.length > 0) return malformed(document, text, at, syntax, document.errors.length > 0);

  const value = plainValue(document);
  if (value === undefined)
    return malformed(document, text, at, [`${at(start)}: the aliases expand to too much; refused`], false);
  const plain = takesPrinted ? withoutReadOnlyFields(value.plain) : value.plain;
  const checked = checkSchema(workspaceSchema, plain);
  if (checked.kind === 'invalid') {
    const problems = atMost(checked.problems, (problem) => formatProblem(document, readOnlyHint(problem), at));
    return malformed(document, text, at, problems, false);
  }
  const { value: manifest } = checked;
  const { metadata, spec } = manifest;
  const lineOf = (offset: number): string => at(offset).replace(/:\d+$/, '');
  return {
    document: {
      kind: 'manifest',
      key: workspaceKey(metadata.namespace ?? 'default', metadata.name),
      manifest,
      origin: lineOf(start),
      pluginOrigins: spec.plugins.map((_, index) => lineOf(offsetOf(document, ['spec', 'plugins', index], false))),
      runtimeAt: at(offsetOf(document, ['spec', 'runtime'], false)),
      targetAt: at(offsetOf(document, ['spec', 'target'], false)),
    },
    problems: [],
    isPartial: false,
  };
}

/** The objects of a List, as kubectl and plugset print several; the document itself when it is none. */
function itemsOf(document: Document.Parsed): readonly Document.Parsed[] {
  const isList = isMap(document.contents) && document.get('kind') === 'List' && document.errors.length === 0;
  const items = isList ? document.get('items', true) : undefined;
  return isSeq<ParsedNode>(items) ? items.items.map((item) => documentOf(item)) : [document];
}

function readOnlyHint(problem: SchemaProblem): SchemaProblem {
  if (!problem.isAboutKey || !isReadOnlyField(problem.path)) return problem;
  return { ...problem, message: 'only plugset writes this; take it out (plugset apply passes over it)' };
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
