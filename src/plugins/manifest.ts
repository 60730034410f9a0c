import { Lexer, parse, Parser } from 'yaml';

import type { PluginManifest } from '../domain/observation.ts';
import type { ConfigurationSchema } from '../domain/plugin-settings.ts';

/** Name of the manifest at the top of a plugin's tree. */
export const MANIFEST_PATH = 'plugin.yaml';

/** A longer manifest counts as a broken one. */
export const MANIFEST_LIMIT_BYTES = 64 * 1024;

const TEXT_LIMIT = 256;
const RUNTIMES_LIMIT = 64;
const MAX_DEPTH = 50;
const MAX_TOKENS = 10_000;

/**
 * What a `plugin.yaml` says about its plugin. Never throws: the manifest informs and decides nothing, so whatever is
 * broken, too long or of the wrong type is left out, and a wholly broken one says nothing.
 */
export function parseManifest(content: string | Uint8Array): PluginManifest {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  // Knows only strings: under the default schema version 1.10 is the number 1.1.
  const fields = readMapping(bytes, 'failsafe');
  const name = asText(fields['name']);
  const version = asText(fields['version']);
  const runtimes = asTextList(fields['runtimes']);
  return {
    ...(name !== undefined && { name }),
    ...(version !== undefined && { version }),
    ...(runtimes !== undefined && { runtimes }),
  };
}

/**
 * What a `plugin.yaml` says of the settings of its plugin, under `contributes.configuration`: one section or a list of them, each
 * with `properties`. `undefined`: nothing that can be understood, and so nothing to check them by.
 */
export function parseConfiguration(content: Uint8Array): ConfigurationSchema | undefined {
  const { configuration } = asMapping(readMapping(content, 'core')['contributes']);
  const sections = (Array.isArray(configuration) ? configuration : [configuration]).map(asMapping);
  const known = sections.filter(({ properties }) => typeof properties === 'object' && properties !== null);
  if (known.length === 0) return undefined;
  const isText = (value: unknown): value is string => typeof value === 'string';
  return {
    properties: Object.fromEntries(known.flatMap(({ properties }) => Object.entries(asMapping(properties)))),
    required: known.flatMap(({ required }) => (Array.isArray(required) ? required.filter(isText) : [])),
    isClosed: known.every(({ additionalProperties }) => additionalProperties === false),
  };
}

function asMapping(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
}

function readMapping(bytes: Uint8Array, schema: 'failsafe' | 'core'): Readonly<Record<string, unknown>> {
  try {
    const text = bytes.byteLength <= MANIFEST_LIMIT_BYTES ? Buffer.from(bytes).toString('utf8') : '';
    if (isTooMuch(text)) return {};
    const value: unknown = parse(text, {
      schema,
      maxAliasCount: 20,
      // The check compares every key with every other.
      uniqueKeys: false,
      logLevel: 'error',
      prettyErrors: false,
    });
    return asMapping(value);
  } catch {
    return {};
  }
}

/**
 * Measured where depth is only a longer list: the next stage recurses, and near the end of the stack V8 does not throw,
 * compiling a regular expression there ends the whole process. And it takes a millisecond for every hundred tokens.
 */
function isTooMuch(text: string): boolean {
  const parser = new Parser();
  let count = 0;
  for (const lexeme of new Lexer().lex(text)) {
    count += 1;
    for (const token of parser.next(lexeme)) if (token.type === 'error') return true;
    if (parser.stack.length > MAX_DEPTH || count > MAX_TOKENS) return true;
  }
  return false;
}

function asText(value: unknown): string | undefined {
  if (typeof value !== 'string' || value === '' || value.length > TEXT_LIMIT) return undefined;
  // oxlint-disable-next-line no-control-regex -- shown on terminals: an escape sequence must not get there
  return /[\u0000-\u001f\u007f-\u009f]/.test(value) ? undefined : value;
}

function asTextList(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value)) return undefined;
  return value.slice(0, RUNTIMES_LIMIT).flatMap((item) => asText(item) ?? []);
}
