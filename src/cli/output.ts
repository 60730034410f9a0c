import { Option } from 'commander';
import { stringify } from 'yaml';

export type Format = 'table' | 'wide' | 'name' | 'json' | 'yaml';

export function outputOption(formats: readonly Format[] = ['table', 'json', 'yaml']): Option {
  return new Option('-o, --output <format>', 'how to print the result').choices(formats).default('table');
}

/** One document. JSON ends with a newline; YAML starts with `---` where several follow each other (`separated`). */
export function formatDocument(value: unknown, format: 'json' | 'yaml', separated = false): string {
  if (format === 'json') return `${JSON.stringify(value, undefined, 2)}\n`;
  // Through JSON first: what is undefined is left out, as in the other format.
  const text = stringify(JSON.parse(JSON.stringify(value)), {
    aliasDuplicateObjects: false,
    // kubectl reads YAML 1.1, where Off is no text.
    compat: 'yaml-1.1',
    lineWidth: 0,
  });
  return separated ? `---\n${text}` : text;
}

/** Several objects as kubectl prints them. */
export function listOf(items: readonly unknown[]): unknown {
  return { apiVersion: 'v1', kind: 'List', items };
}
