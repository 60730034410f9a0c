import { readFileSync } from 'node:fs';

import { LineCounter } from 'yaml';

import {
  composeDocuments,
  formatProblem,
  isEmpty,
  offsetOf,
  plainValue,
  structureProblems,
} from '../adapters/files/yaml-document.ts';
import { causeOf } from '../domain/error-code.ts';
import type { SchemaProblem } from '../domain/schema-problems.ts';
import { REDACTED } from '../domain/secrets.ts';
import { ConfigError } from './config-error.ts';

const MAX_BYTES = 1024 * 1024;

/** A configuration file as plain data, and where everything in it stands. */
export interface ConfigFile {
  readonly path: string;
  readonly text: string;
  readonly value: unknown;
  /** `plugset.yaml:12` */
  lineOf(path: readonly PropertyKey[]): string;
  /** `plugset.yaml:12:5: limits.workers: must be …` */
  describe(problem: SchemaProblem): string;
}

/** Throws {@link ConfigError} that names the file and the line. */
export function readConfigFile(path: string): ConfigFile {
  const text = readText(path);
  const lines = new LineCounter();
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${path}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  };
  const documents = composeDocuments(text, lines)?.filter((document) => !isEmpty(document));
  if (documents === undefined) throw new ConfigError(`${path}: nested too deeply`);
  const [document, second] = documents;
  if (document === undefined) throw new ConfigError(`${path}: holds nothing`);
  if (second !== undefined) throw new ConfigError(`${at(second.range[0])}: a configuration is one document`);
  const problems = [
    ...[...document.errors, ...document.warnings].map((error) => `${at(error.pos[0])}: ${error.message}`),
    ...(document.errors.length > 0 ? [] : structureProblems(document, at)),
  ];
  if (problems.length > 0) throw new ConfigError(problems.join('\n'));
  const value = plainValue(document);
  if (value === undefined) throw new ConfigError(`${path}: the aliases expand to too much`);
  return {
    path,
    text,
    value: value.plain,
    lineOf: (place) => at(offsetOf(document, place, true)).replace(/:\d+$/, ''),
    // A URL that was written in the wrong place is told as a key that nobody knows.
    describe: (problem) => formatProblem(document, problem, at).replaceAll(/:\/\/\S*@/g, `://${REDACTED}@`),
  };
}

function readText(path: string): string {
  try {
    const text = readFileSync(path, 'utf8');
    if (text.length <= MAX_BYTES) return text;
  } catch (error) {
    throw new ConfigError(`--config ${path}: cannot be read (${causeOf(error)})`, { cause: error });
  }
  throw new ConfigError(`--config ${path}: larger than 1 MiB`);
}
