import type { z } from 'zod';

/** What is wrong with one place of what a person wrote. */
export interface SchemaProblem {
  readonly path: readonly PropertyKey[];
  /** The key itself is what is wrong, not its value. */
  readonly isAboutKey: boolean;
  readonly message: string;
}

export type Checked<T> =
  | { readonly kind: 'valid'; readonly value: T }
  | { readonly kind: 'invalid'; readonly problems: readonly SchemaProblem[] };

/** Checks plain data against a schema. Problems say what is allowed, and never repeat a value: it may be a secret. */
export function checkSchema<S extends z.ZodType>(schema: S, value: unknown): Checked<z.infer<S>> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { kind: 'valid', value: parsed.data };
  const root: Root = { schema, value };
  return { kind: 'invalid', problems: parsed.error.issues.flatMap((issue) => problemsOf(issue, issue.path, root)) };
}

interface Root {
  readonly schema: z.core.$ZodType;
  readonly value: unknown;
}

/** `spec.plugins[0].source` */
export function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, part) =>
      typeof part === 'number' ? `${text}[${part}]` : text === '' ? String(part) : `${text}.${String(part)}`,
    '',
  );
}

function problemsOf(issue: z.core.$ZodIssue, path: readonly PropertyKey[], root: Root): readonly SchemaProblem[] {
  const at = (message: string): readonly SchemaProblem[] => [{ path, isAboutKey: false, message }];
  switch (issue.code) {
    case 'unrecognized_keys': {
      const allowed = allowedKeys(root.schema, path);
      const hint = allowed.length === 0 ? 'nothing is allowed here' : `allowed here: ${allowed.join(', ')}`;
      return issue.keys.map((key) => ({ path: [...path, key], isAboutKey: true, message: `unknown key; ${hint}` }));
    }
    case 'invalid_type':
      return at(
        valueAt(root.value, path) === undefined ? 'is required' : `must be ${NOUNS[issue.expected] ?? issue.expected}`,
      );
    case 'invalid_value':
      return at(`must be ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.map(String).join(', ')}`);
    case 'invalid_union':
      return problemsOfUnion(issue, path, root);
    default:
      return at(issue.message);
  }
}

const ZOD_UNION_MESSAGE = 'Invalid input';

/**
 * Unions are of maps with one key each, unless they say themselves what they take. When one kind is plainly meant, its own
 * problems say more than "no kind fits".
 */
function problemsOfUnion(
  issue: z.core.$ZodIssueInvalidUnion,
  path: readonly PropertyKey[],
  root: Root,
): readonly SchemaProblem[] {
  const isMeant = (branch: readonly z.core.$ZodIssue[]): boolean =>
    branch.every(({ path: [kind] }) => kind !== undefined && valueAt(root.value, [...path, kind]) !== undefined);
  const meant = issue.errors.find((branch) => branch.length > 0 && isMeant(branch));
  if (meant !== undefined) return meant.flatMap((inner) => problemsOf(inner, [...path, ...inner.path], root));
  if (issue.message !== ZOD_UNION_MESSAGE) return [{ path, isAboutKey: false, message: issue.message }];
  const kinds = allowedKeys(root.schema, path).join(', ');
  return [{ path, isAboutKey: false, message: `must have exactly one of the keys ${kinds}` }];
}

/** The kinds of schema that lead to keys. */
type SchemaNode =
  | z.core.$ZodObjectDef
  | z.core.$ZodArrayDef
  | z.core.$ZodOptionalDef
  | z.core.$ZodPrefaultDef
  | z.core.$ZodUnionDef;

function allowedKeys(schema: z.core.$ZodType, path: readonly PropertyKey[]): readonly string[] {
  const { def } = schema as z.core.$ZodType & { def: SchemaNode };
  const [head, ...rest] = path;
  switch (def.type) {
    case 'optional':
    case 'prefault':
      return allowedKeys(def.innerType, path);
    case 'array':
      return head === undefined ? [] : allowedKeys(def.element, rest);
    case 'union':
      return def.options.flatMap((option) => allowedKeys(option, path));
    case 'object': {
      if (head === undefined) return Object.keys(def.shape);
      const inner = def.shape[String(head)];
      return inner === undefined ? [] : allowedKeys(inner, rest);
    }
    default:
      return [];
  }
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const part of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

/** The schema speaks of JavaScript, people write YAML and JSON. */
const NOUNS: Readonly<Record<string, string>> = {
  object: 'a map',
  record: 'a map',
  array: 'a list',
  boolean: 'true or false',
  string: 'a text (put a number or a date in quotes)',
};
