import { Document, isCollection, isMap, isScalar, isSeq, type Node, type YAMLMap, type YAMLSeq } from 'yaml';

import { canonicalJson } from '../../domain/digest.ts';
import { terminal } from '../../domain/errors.ts';
import { workspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import type { WorkspaceManifest } from '../../domain/workspace.ts';
import { readableKey } from './parse-workspace-file.ts';
import { composeDocuments, isEmpty } from './yaml-document.ts';

/**
 * `text` with the manifest in place of the document of the same key, or after the last document. Only that document is
 * written anew, and in it only what differs: comments, order and the other documents stay as people wrote them.
 * Throws `InvalidSpec` when the text cannot be edited safely; `path` is for the message.
 */
export function upsertDocument(path: string, text: string, manifest: WorkspaceManifest): string {
  const key = workspaceKey(manifest.metadata.namespace ?? 'default', manifest.metadata.name);
  const [found] = documentsOf(path, text, key);
  if (found === undefined) {
    const separator = text.trim() === '' ? '' : text.endsWith('\n') ? '---\n' : '\n---\n';
    return `${text}${separator}${new Document(manifest).toString({ lineWidth: 0 })}`;
  }
  const { contents } = found;
  if (!isMap(contents))
    throw terminal('InvalidSpec', `${path}: the document of ${key} is not a map; put it right by hand`);
  // Saying `namespace: default` and saying nothing are the same; the file keeps its way.
  const value = structuredClone(manifest) as { metadata: { namespace?: string | undefined } };
  if (value.metadata.namespace === undefined && found.hasIn(['metadata', 'namespace']))
    value.metadata.namespace = 'default';
  mergeMap(found, contents, definedOnly(value));
  const [first] = documentsIn(path, text);
  const [, , end] = found.range;
  // The first document begins after the comments above it, and prints them all the same.
  const start = found.range[0] === first?.range[0] ? 0 : found.range[0];
  return `${text.slice(0, start)}${found.toString({ lineWidth: 0 })}${text.slice(end)}`;
}

/** `text` without the documents of this key; `undefined` when no document is left. */
export function removeDocuments(path: string, text: string, key: WorkspaceKey): string | undefined {
  const all = documentsIn(path, text);
  const kept = all.filter((document) => readableKey(document) !== key && !isEmpty(document));
  if (kept.length === 0) return undefined;
  let rest = text;
  for (const document of documentsOf(path, text, key).toReversed()) {
    const [start, , end] = document.range;
    rest = rest.slice(0, start) + rest.slice(end);
  }
  return rest;
}

function documentsOf(path: string, text: string, key: WorkspaceKey): readonly Document.Parsed[] {
  return documentsIn(path, text).filter((document) => readableKey(document) === key);
}

function documentsIn(path: string, text: string): readonly Document.Parsed[] {
  const documents = composeDocuments(text);
  if (documents?.every(({ errors }) => errors.length === 0) === true) return documents;
  throw terminal(
    'InvalidSpec',
    `${path} is not valid YAML, so plugset does not edit it; put it right by hand (plugset validate ${path})`,
  );
}

type Plain = Readonly<Record<string, unknown>>;

function mergeMap(document: Document, map: YAMLMap, value: Plain): void {
  for (const pair of [...map.items]) {
    const key = isScalar(pair.key) ? String(pair.key.value) : undefined;
    if (key === undefined || !(key in value)) map.delete(pair.key);
  }
  for (const [key, inner] of Object.entries(value)) {
    const before = map.get(key, true);
    const after = mergeNode(document, before, inner);
    if (after !== before) map.set(key, after);
  }
}

/** The node for `value`: `before`, edited in place, wherever it has the right kind. */
function mergeNode(document: Document, before: Node | undefined, value: unknown): Node {
  if (isMap(before) && isPlain(value)) {
    mergeMap(document, before, value);
    return before;
  }
  if (isSeq(before) && Array.isArray(value)) {
    mergeSeq(document, before, value);
    return before;
  }
  if (isScalar(before) && before.value === value) return before;
  const node = document.createNode(value);
  if (before !== undefined && !isCollection(before) && isScalar(node)) {
    node.comment = before.comment ?? null;
    node.commentBefore = before.commentBefore ?? null;
  }
  return node;
}

/** Entries with a name are found again by it, wherever they went; others by their content. */
function mergeSeq(document: Document, seq: YAMLSeq, values: readonly unknown[]): void {
  const left = [...(seq.items as Node[])];
  seq.items = values.map((value) => {
    const index = left.findIndex((item) => isSameEntry(document, item, value));
    const [before] = index < 0 ? [] : left.splice(index, 1);
    return mergeNode(document, before, value);
  });
}

function isSameEntry(document: Document, item: Node, value: unknown): boolean {
  const name = isPlain(value) ? value['name'] : undefined;
  if (name !== undefined) return isMap(item) && item.get('name') === name;
  return canonicalJson(item.toJS(document)) === canonicalJson(value);
}

function isPlain(value: unknown): value is Plain {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** YAML knows no `undefined`. */
function definedOnly(value: unknown): Plain {
  return JSON.parse(JSON.stringify(value)) as Plain;
}
