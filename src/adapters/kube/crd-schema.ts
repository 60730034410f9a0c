import { isDeepStrictEqual } from 'node:util';

import { z } from 'zod';

/** What an object of the API may hold: the part of OpenAPI that Kubernetes calls a structural schema. */
export interface StructuralSchema {
  readonly description?: string;
  readonly type: string;
  readonly properties?: Readonly<Record<string, StructuralSchema>>;
  readonly required?: readonly string[];
  /** Of the values of a map with any keys. */
  readonly additionalProperties?: StructuralSchema;
  readonly items?: StructuralSchema;
  /** Bounds, patterns and the like, and what is Kubernetes' own (`x-kubernetes-…`). */
  readonly [word: string]: unknown;
}

type Words = Readonly<Record<string, unknown>>;

/** What JSON Schema has no word for, by path: `spec.plugins`, and `spec.plugins[]` for each of them. */
export type Extensions = Readonly<Record<string, Words>>;

/**
 * Writes a schema of ours as a structural one. Throws for a word that has no counterpart there, and for an extension of a
 * place that does not exist: what was left out in silence would be a check that nobody makes.
 */
export function structuralSchema(schema: z.ZodType, root: string, extensions: Extensions): StructuralSchema {
  const writer = new Writer(extensions);
  const written = writer.write(z.toJSONSchema(schema, { target: 'openapi-3.0' }), root);
  writer.expectAllUsed();
  return written;
}

type JsonSchema = z.core.JSONSchema.JSONSchema;

/** Words that mean the same in both. */
const SHARED: ReadonlySet<string> = new Set([
  ...['pattern', 'format', 'enum', 'minimum', 'maximum', 'minLength', 'maxLength', 'required'],
  ...['minItems', 'maxItems', 'minProperties', 'maxProperties'],
]);

/** Said elsewhere, or not at all: the API server drops unknown keys of every map that lists its keys. */
const PASSED_OVER: ReadonlySet<string> = new Set([
  ...['$schema', 'readOnly', 'description', 'type', 'properties', 'additionalProperties', 'items'],
]);

class Writer {
  readonly #extensions: Extensions;
  readonly #unused: Set<string>;

  constructor(extensions: Extensions) {
    this.#extensions = extensions;
    this.#unused = new Set(Object.keys(extensions));
  }

  expectAllUsed(): void {
    if (this.#unused.size > 0) throw new Error(`nothing stands at ${[...this.#unused].join(', ')}`);
  }

  write(json: JsonSchema, path: string): StructuralSchema {
    if (json.anyOf !== undefined) return this.write(sideBySide(json, json.anyOf, path), path);
    const { description, type } = json;
    if (typeof type !== 'string') throw new Error(`${path}: is of no type that a structural schema has`);
    this.#unused.delete(path);
    return {
      ...(description === undefined ? {} : { description }),
      type,
      ...boundsOf(json, path),
      ...this.#insideOf(json, path),
      ...this.#extensions[path],
    };
  }

  #insideOf({ properties, additionalProperties, items }: JsonSchema, path: string): Words {
    if (typeof items === 'object' && !Array.isArray(items)) return { items: this.write(items, `${path}[]`) };
    if (typeof additionalProperties === 'object') {
      const isOfAnything = Object.keys(additionalProperties).length === 0;
      return isOfAnything
        ? { 'x-kubernetes-preserve-unknown-fields': true }
        : { additionalProperties: this.write(additionalProperties, `${path}{}`) };
    }
    const entries = Object.entries(properties ?? {}).map(([name, inner]) => [
      name,
      this.write(inner as JsonSchema, `${path}.${name}`),
    ]);
    return entries.length === 0 ? {} : { properties: Object.fromEntries(entries) as Words };
  }
}

function boundsOf(json: JsonSchema, path: string): Words {
  const words = Object.entries(json).filter(([word]) => !PASSED_OVER.has(word));
  const unknown = words.filter(([word]) => !SHARED.has(word)).map(([word]) => word);
  if (unknown.length > 0) throw new Error(`${path}: a structural schema has no ${unknown.join(', ')}`);
  // Whoever writes one that is only ever true may write false as well.
  if (json.type === 'boolean') return {};
  if (json.type !== 'integer') return Object.fromEntries(words);
  // The bounds of numbers in JavaScript are none that anybody has declared.
  const declared = words.filter(([, bound]) => Math.abs(Number(bound)) !== Number.MAX_SAFE_INTEGER);
  return { format: 'int64', ...Object.fromEntries(declared) };
}

/**
 * Alternatives as one map with the keys of all. A structural schema has no alternatives: that they exclude each other is
 * for a rule to say.
 */
function sideBySide(json: JsonSchema, alternatives: readonly JsonSchema[], path: string): JsonSchema {
  const properties: Record<string, JsonSchema> = {};
  for (const [name, schema] of alternatives.flatMap((one) => Object.entries(one.properties ?? {}))) {
    const before = properties[name];
    properties[name] =
      before === undefined ? (schema as JsonSchema) : eitherOf(before, schema as JsonSchema, `${path}.${name}`);
  }
  const required = Object.keys(properties).filter((name) => alternatives.every((one) => one.required?.includes(name)));
  return {
    ...(json.description === undefined ? {} : { description: json.description }),
    type: 'object',
    properties,
    ...(required.length === 0 ? {} : { required }),
  };
}

/** The same key in two alternatives: the same, or one of other words. */
function eitherOf(one: JsonSchema, other: JsonSchema, path: string): JsonSchema {
  const { enum: some = [], ...rest } = one;
  const { enum: more = [], ...same } = other;
  if (!isDeepStrictEqual(rest, same)) throw new Error(`${path}: differs between alternatives`);
  return { ...rest, ...(some.length === 0 || more.length === 0 ? {} : { enum: [...some, ...more] }) };
}
