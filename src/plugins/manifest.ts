import { parse } from 'yaml';

import type { PluginManifest } from '../domain/observation.ts';

/** Name of the manifest at the top of a plugin's tree. */
export const MANIFEST_PATH = 'plugin.yaml';

/** A longer manifest counts as a broken one. */
export const MANIFEST_LIMIT_BYTES = 64 * 1024;

const TEXT_LIMIT = 256;
const RUNTIMES_LIMIT = 64;

/**
 * What a `plugin.yaml` says about its plugin. Never throws: the manifest informs and decides nothing, so whatever is
 * broken, too long or of the wrong type is left out, and a wholly broken one says nothing.
 */
export function parseManifest(content: string | Uint8Array): PluginManifest {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  const fields = bytes.byteLength <= MANIFEST_LIMIT_BYTES ? readMapping(Buffer.from(bytes).toString('utf8')) : {};
  const name = asText(fields['name']);
  const version = asText(fields['version']);
  const runtimes = asTextList(fields['runtimes']);
  return {
    ...(name !== undefined && { name }),
    ...(version !== undefined && { version }),
    ...(runtimes !== undefined && { runtimes }),
  };
}

function readMapping(text: string): Readonly<Record<string, unknown>> {
  try {
    // The failsafe schema knows only strings: under the default one version 1.10 is the number 1.1.
    const value: unknown = parse(text, { schema: 'failsafe', maxAliasCount: 20, logLevel: 'error', prettyErrors: false });
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
  } catch {
    // Besides syntax errors: too many aliases, and the stack running out on 60,000 opening brackets.
    return {};
  }
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
