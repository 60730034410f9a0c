import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';

import { structuralSchema, type StructuralSchema } from '../../../../src/adapters/kube/crd-schema.ts';
import { crdManifest } from '../../../../src/adapters/kube/crd.ts';
import { checkSchema } from '../../../../src/domain/schema-problems.ts';
import { LOCKABLE_POLICY, workspaceSchema } from '../../../../src/domain/workspace.ts';
import { BAD_WORKSPACES, GOOD_WORKSPACES } from '../../../support/bad-workspaces.ts';

interface Crd {
  readonly spec: { readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: StructuralSchema } }[] };
}

const text = crdManifest();
const root = (parse(text) as Crd).spec.versions[0]?.schema.openAPIV3Schema;
const places = root === undefined ? [] : placesIn(root, '');
const ofSpec = places.filter(({ path }) => path.startsWith('.spec'));

interface Place {
  readonly path: string;
  readonly schema: StructuralSchema;
}

function placesIn(schema: StructuralSchema, path: string): readonly Place[] {
  const inner = Object.entries(schema.properties ?? {}).flatMap(([name, one]) => placesIn(one, `${path}.${name}`));
  const items = schema.items === undefined ? [] : placesIn(schema.items, `${path}[]`);
  const values = schema.additionalProperties === undefined ? [] : placesIn(schema.additionalProperties, `${path}{}`);
  return [{ path, schema }, ...inner, ...items, ...values];
}

function pathsWhere(list: readonly Place[], isSo: (schema: StructuralSchema) => boolean): readonly string[] {
  return list.filter(({ schema }) => isSo(schema)).map(({ path }) => path);
}

describe('the definition of the custom resource', () => {
  it('is structural: each place has one type, and either named keys, values, items or nothing inside', () => {
    const SHAPES = ['properties', 'additionalProperties', 'items', 'x-kubernetes-preserve-unknown-fields'];
    expect(places.length).toBeGreaterThan(80);
    expect(pathsWhere(places, ({ type }) => typeof type !== 'string')).toEqual([]);
    expect(pathsWhere(places, (schema) => SHAPES.filter((shape) => shape in schema).length > 1)).toEqual([]);
    expect(pathsWhere(places, ({ type, items }) => (type === 'array') !== (items !== undefined))).toEqual([]);
  });

  it('describes every key, for kubectl explain', () => {
    const keys = places.filter(({ path }) => /\.\w+$/.test(path) && !path.startsWith('.metadata'));
    expect(pathsWhere(keys, ({ description = '' }) => !/^[^]{8,}\.$/.test(description))).toEqual([]);
  });

  it('bounds everything in a spec, so that a rule costs what an API server allows', () => {
    const isOpen = (schema: StructuralSchema): boolean =>
      (schema.type === 'string' && !('maxLength' in schema) && !('enum' in schema)) ||
      (schema.type === 'array' && !('maxItems' in schema)) ||
      (schema.additionalProperties !== undefined && !('maxProperties' in schema));
    expect(pathsWhere(ofSpec, isOpen)).toEqual([]);
  });

  it('says of every list how it is merged', () => {
    const lists = places.filter(({ schema }) => schema.type === 'array');
    const kinds = lists.map(({ path, schema }) => [
      path,
      schema['x-kubernetes-list-type'],
      ...((schema['x-kubernetes-list-map-keys'] as string[] | undefined) ?? []),
    ]);
    expect(kinds).toEqual([
      ['.spec.plugins', 'map', 'name'],
      ['.status.conditions', 'map', 'type'],
      ['.status.plugins', 'map', 'name'],
      ['.status.held.changes', 'atomic'],
      ['.status.leftBehind', 'atomic'],
      ['.status.history', 'atomic'],
    ]);
  });

  it('keeps unknown keys in the settings of a plugin alone', () => {
    expect(pathsWhere(places, (schema) => schema['x-kubernetes-preserve-unknown-fields'] === true)).toEqual([
      '.spec.plugins[].config',
    ]);
  });

  it('sets no default that the operator may set, and shows kstatus that nobody has come yet', () => {
    const defaults = places.flatMap(({ path, schema }) => ('default' in schema ? [[path, schema['default']]] : []));
    expect(defaults).toEqual([
      ['.spec.suspend', false],
      ['.status', { observedGeneration: -1 }],
    ]);
    const policy = places.find(({ path }) => path === '.spec.policy')?.schema;
    expect(Object.keys(policy?.properties ?? {})).toEqual(expect.arrayContaining([...LOCKABLE_POLICY]));
  });

  it('limits nothing in a status: one that is refused would be refused in every pass', () => {
    const ofStatus = places.filter(({ path }) => path.startsWith('.status'));
    const LIMITS = ['maxLength', 'maxItems', 'maxProperties', 'pattern', 'minimum', 'maximum', 'enum'];
    expect(pathsWhere(ofStatus, (schema) => LIMITS.some((limit) => limit in schema))).toEqual([
      '.status.conditions[].status',
    ]);
  });

  it('has patterns that RE2 reads as JavaScript does', () => {
    const patterns = places.flatMap(({ schema }) => (typeof schema['pattern'] === 'string' ? [schema['pattern']] : []));
    expect(patterns.length).toBeGreaterThan(8);
    // Neither looks around nor references back; and the whole of a text is meant, to its end.
    expect(patterns.filter((pattern) => /\(\?(?!:)|\\[1-9kbBcu]/.test(pattern) || !/^\^.*\$$/.test(pattern))).toEqual(
      [],
    );
  });

  it('means the same in YAML 1.1, which kubectl reads', () => {
    expect(parse(text, { version: '1.1' })).toEqual(parse(text));
    expect(text).toContain("- 'Off'");
  });
});

describe('a schema that is written as a structural one', () => {
  const write = (schema: z.ZodType): StructuralSchema => structuralSchema(schema, 'it', {});

  it('has no word left out', () => {
    expect(() => write(z.strictObject({ half: z.number().multipleOf(0.5) }))).toThrow(/^it\.half: .* no multipleOf$/);
    expect(() => write(z.strictObject({ any: z.unknown() }))).toThrow(/^it\.any: is of no type/);
    expect(() => structuralSchema(z.strictObject({ a: z.string() }), 'it', { 'it.b': {} })).toThrow(/at it\.b$/);
  });

  it('has the keys of all alternatives side by side, each of which means one thing', () => {
    const either = z.union([
      z.strictObject({ kind: z.literal('a'), size: z.int() }),
      z.strictObject({ kind: z.literal('b'), name: z.string() }),
    ]);
    expect(write(either)).toEqual({
      type: 'object',
      required: ['kind'],
      properties: {
        kind: { type: 'string', enum: ['a', 'b'] },
        size: { type: 'integer', format: 'int64' },
        name: { type: 'string' },
      },
    });
    const unlike = z.union([z.strictObject({ it: z.string() }), z.strictObject({ it: z.int() })]);
    expect(() => write(unlike)).toThrow(/^it\.it: differs/);
  });
});

// What an API server makes of them is tried on one: test/e2e/kube-crd.test.ts.
describe('the schema that reads files and rows', () => {
  it.each(BAD_WORKSPACES)('on $what', ({ object, isMalformed }) => {
    const { kind } = checkSchema(workspaceSchema, JSON.parse(JSON.stringify(object)));
    expect(kind).toBe(isMalformed ? 'invalid' : 'valid');
  });

  it.each(GOOD_WORKSPACES)('takes $metadata.name', (object) => {
    expect(checkSchema(workspaceSchema, object)).toMatchObject({ kind: 'valid' });
  });
});
