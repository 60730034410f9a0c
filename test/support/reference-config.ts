import { stringify } from 'yaml';
import { z } from 'zod';

import { needsRestart } from '../../src/config/reload.ts';
import { settingsSchema } from '../../src/config/settings.ts';

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema;
  readonly default?: unknown;
  readonly const?: string;
  readonly enum?: readonly string[];
  readonly description?: string;
}

const HEAD = `\
# Everything that plugset can be told, with its defaults. Copy what should be otherwise into a file of your own, and give
# that to every command: --config FILE, or PLUGSET_CONFIG. Variables and flags go before the file (README, "Options").
# \`plugset config\` shows what is in force and who said it. A running daemon takes changes up within seconds; those marked
# (restart) at its next start. Relative paths are meant from where the file lies.
#
# Written by test/docs from the schema that reads it: vitest run test/docs -u.
`;

/** The documented configuration file: every key of the schema, its meaning, its default. */
export function referenceConfig(): string {
  const schema = z.toJSONSchema(settingsSchema, { io: 'input', unrepresentable: 'any' }) as JsonSchema;
  return HEAD + linesOf(schema, [], 0).join('\n').trimEnd() + '\n';
}

function linesOf({ properties = {} }: JsonSchema, path: readonly string[], depth: number): readonly string[] {
  return Object.entries(properties).flatMap(([key, inner]) => {
    const place = [...path, key];
    const lines = [...comment(inner, place), ...entry(key, inner, place)].map((line) => '  '.repeat(depth) + line);
    return depth === 0 && key !== 'apiVersion' ? [...(key === 'kind' ? [] : ['']), ...lines] : lines;
  });
}

function comment({ description }: JsonSchema, path: readonly string[]): readonly string[] {
  const isBranch = path.length < 2;
  const restart = !isBranch && needsRestart(path.join('.')) ? ' (restart)' : '';
  return description === undefined ? [] : wrap(`${description}${restart}`).map((line) => `# ${line}`);
}

function entry(key: string, schema: JsonSchema, path: readonly string[]): readonly string[] {
  if (schema.const !== undefined) return [`${key}: ${schema.const}`];
  if (schema.properties !== undefined) {
    const inner = linesOf(schema, path, 1);
    // Left out unless somebody writes it, or something within: all of it stands as a comment.
    const isLeftOut = schema.default === undefined || inner.every((line) => line.trimStart().startsWith('#'));
    return isLeftOut ? [`${key}:`, ...inner].map(asComment) : [`${key}:`, ...inner];
  }
  if (schema.default === undefined) return [`# ${key}: ${schema.enum?.join(' | ') ?? '…'}`];
  const items = schema.items?.properties === undefined ? [] : exampleItem(schema.items);
  return [
    stringify({ [key]: schema.default }, { lineWidth: 0, flowCollectionPadding: false }).trimEnd(),
    ...items,
  ].flatMap((text) => text.split('\n'));
}

/** What an entry of a list of maps can hold. */
function exampleItem(item: JsonSchema): readonly string[] {
  const lines = linesOf({ properties: item.properties ?? {} }, ['', ''], 0).filter((line) => line !== '');
  return ['# Each entry:', ...lines.map((line) => `#   ${line.replace(/^# ?(?=\w+: …)/, '')}`)];
}

function asComment(line: string): string {
  return line.startsWith('#') ? line : `# ${line}`;
}

function wrap(text: string): readonly string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + word.length < 100) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
