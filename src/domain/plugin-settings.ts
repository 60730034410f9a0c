import { z } from 'zod';

import { canonicalJson, sha256, type Digest } from './digest.ts';
import type { ReconcileError } from './errors.ts';
import { STATE_DIRECTORY } from './layout.ts';
import { BASE_DIRECTORY } from './loader.ts';
import type { PluginName } from './name.ts';
import { printable } from './text.ts';

/*
 * The settings of a plugin (`plugins[].config`) on their way to `plugin-settings/NAME.json`. Secrets in them are references
 * (`{$ref: secret:NAME/KEY}`) up to the moment of delivery: everything here but `renderSettings` works without their values.
 */

/** One file for each plugin with settings, by the name that it is installed as: no other name of it leads anywhere. */
export const SETTINGS_DIRECTORY = 'plugin-settings';

/** Settings may be secrets, and a receipt holds their hash. */
export const SETTINGS_MODE = 0o600;

export function settingsPath(plugin: PluginName): string {
  return `${SETTINGS_DIRECTORY}/${plugin}.json`;
}

/** One for each such file that plugset wrote. */
export function settingsReceiptPath(plugin: PluginName): string {
  return `${STATE_DIRECTORY}/settings/${plugin}`;
}

/** What lay there before plugset wrote the first time: what a template or a user had set. */
export function settingsBasePath(plugin: PluginName): string {
  return `${BASE_DIRECTORY}/${settingsPath(plugin)}`;
}

export type SettingsValues = Readonly<Record<string, unknown>>;

/** What a plugin's manifest says of its settings (`contributes.configuration`), in words of JSON Schema. */
export interface ConfigurationSchema {
  readonly properties: Readonly<Record<string, unknown>>;
  readonly required: readonly string[];
  /** Only keys that it names are settings. */
  readonly isClosed: boolean;
}

/** Declared settings, as far as they can be known without any secret. */
export interface CheckedSettings {
  /** Without the keys that are wrong; references in place. */
  readonly values: SettingsValues;
  /** Texts of the references in them, each once. */
  readonly references: readonly string[];
  /** A sentence for each key that is wrong and was dropped, or is missing. Never a value. */
  readonly problems: readonly string[];
}

/** Settings that a plugin is to have. */
export interface DesiredSettings extends CheckedSettings {
  /** Of the values with references in place: what was declared, not what it stands for. */
  readonly declared: Digest;
  /** Changes with `declared` and with every secret behind a reference. Absent: one of them could not be looked at, see `error`. */
  readonly revision?: Digest | undefined;
  /** Why they cannot be delivered now; those that are on the target stay. */
  readonly error?: ReconcileError | undefined;
}

/** What plugset wrote beside a settings file of its own. */
export interface SettingsReceipt {
  readonly format: 1;
  readonly plugin: PluginName;
  /** `namespace/name` of the workspace that they were delivered for. */
  readonly workspace: string;
  readonly revision: Digest;
  /** Of the file as it was written, hex. */
  readonly sha256: string;
}

/** One place where a file of settings may lie. `other`: a link, a directory, or what cannot be read. */
export type SettingsFile =
  | { readonly kind: 'absent' }
  | { readonly kind: 'other' }
  | {
      readonly kind: 'file';
      readonly uid: number;
      /** Hex. */
      readonly sha256: string;
      /** Only of looks that asked for it. */
      readonly text?: string | undefined;
    };

/** What a look found of the settings of one plugin. */
export interface ObservedSettings {
  readonly name: PluginName;
  readonly file: SettingsFile;
  readonly receiptFile: SettingsFile;
  readonly base: SettingsFile;
  /** Absent where there is none, and where the agent garbled it: then the file counts as ours and as changed. */
  readonly receipt?: SettingsReceipt | undefined;
}

/** What is to be done about the settings of one plugin. */
export type SettingsStep =
  | { readonly kind: 'none' }
  | { readonly kind: 'write' | 'remove'; readonly cause: 'corrective' | 'intentional' }
  /** Something stands in the way, which only a person takes away. */
  | { readonly kind: 'blocked'; readonly message: string };

const NONE: SettingsStep = { kind: 'none' };

/** `writerUid`: who writes there. Its own files are overwritten; what a user has in their place is the base of them. */
export function settingsStep(
  plugin: PluginName,
  wanted: DesiredSettings | undefined,
  found: ObservedSettings | undefined,
  writerUid: number,
): SettingsStep {
  const { file, receiptFile, base, receipt } = found ?? NOT_THERE;
  const isOurs = receiptFile.kind !== 'absent';
  if (wanted === undefined ? !isOurs : wanted.revision === undefined) return NONE;
  for (const [place, one] of [
    [settingsPath(plugin), file],
    [settingsReceiptPath(plugin), receiptFile],
    [settingsBasePath(plugin), base],
  ] as const) {
    if (one.kind === 'other' || (one.kind === 'file' && one.uid !== writerUid))
      return { kind: 'blocked', message: `${place} is no regular file of the owner of the config directory` };
  }
  if (wanted === undefined) return { kind: 'remove', cause: 'intentional' };
  if (!isOurs || (receipt !== undefined && receipt.revision !== wanted.revision))
    return { kind: 'write', cause: 'intentional' };
  const isAsDelivered = file.kind === 'file' && receipt?.sha256 === file.sha256;
  return isAsDelivered ? NONE : { kind: 'write', cause: 'corrective' };
}

const ABSENT: SettingsFile = { kind: 'absent' };
const NOT_THERE: Omit<ObservedSettings, 'name'> = { file: ABSENT, receiptFile: ABSENT, base: ABSENT };

/** Where the value of a setting comes from, instead of standing in the declaration. */
export type SecretReference =
  | { readonly scheme: 'secret'; readonly name: string; readonly key: string }
  | { readonly scheme: 'file'; readonly path: string }
  | { readonly scheme: 'env'; readonly variable: string };

/** `undefined` for a text that breaks the grammar. */
export function parseReference(text: string): SecretReference | undefined {
  const secret = /^secret:([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)\/([A-Za-z0-9._-]{1,253})$/.exec(text);
  if (secret?.[1] !== undefined && secret[2] !== undefined)
    return { scheme: 'secret', name: secret[1], key: secret[2] };
  // oxlint-disable-next-line no-control-regex -- shown in messages
  const file = /^file:(\/[^\u0000-\u001f\u007f]{1,4095})$/.exec(text);
  if (file?.[1] !== undefined) return { scheme: 'file', path: file[1] };
  const env = /^env:([A-Za-z_][A-Za-z0-9_]{0,254})$/.exec(text);
  return env?.[1] === undefined ? undefined : { scheme: 'env', variable: env[1] };
}

const REFERENCE_RULE = '$ref must be secret:NAME/KEY, file:/PATH or env:NAME, and the only key beside no other';

/** Checks each key by itself: one that is wrong is dropped and named, and the others go on. */
export function checkSettings(config: SettingsValues, schema: ConfigurationSchema | undefined): CheckedSettings {
  const problems: string[] = [];
  const references = new Set<string>();
  const kept = Object.entries(config).filter(([key, value]) => {
    const found: string[] = [];
    const problem = referencesIn(value, found) ? problemOf(key, value, found, schema) : REFERENCE_RULE;
    if (problem !== undefined) problems.push(`${shownKey(key)}: ${problem}`);
    else for (const text of found) references.add(text);
    return problem === undefined;
  });
  for (const key of schema?.required ?? [])
    if (!Object.hasOwn(config, key)) problems.push(`${shownKey(key)}: is required by the manifest of the plugin`);
  return { values: Object.fromEntries(kept), references: [...references].toSorted(), problems };
}

/** Collects the texts of references; `false` where one is wrong. */
function referencesIn(value: unknown, found: string[]): boolean {
  if (typeof value !== 'object' || value === null) return true;
  if (Array.isArray(value)) return value.every((one) => referencesIn(one, found));
  if (!('$ref' in value)) return Object.values(value).every((one) => referencesIn(one, found));
  if (Object.keys(value).length > 1 || typeof value.$ref !== 'string') return false;
  found.push(value.$ref);
  return parseReference(value.$ref) !== undefined;
}

function problemOf(
  key: string,
  value: unknown,
  references: readonly string[],
  schema: ConfigurationSchema | undefined,
): string | undefined {
  if (schema === undefined) return undefined;
  const property = Object.hasOwn(schema.properties, key) ? schema.properties[key] : undefined;
  if (property === undefined) return schema.isClosed ? 'the manifest of the plugin knows no such key' : undefined;
  // What stands behind a reference is a text, and whether it is a good one is nobody's business here.
  if (references.length > 0) return undefined;
  const checker = checkerOf(property);
  if (checker === undefined) return 'what the manifest of the plugin says of it cannot be understood';
  const result = checker.safeParse(value);
  if (result.success) return undefined;
  const [issue] = result.error.issues;
  const where = issue === undefined || issue.path.length === 0 ? '' : `at ${issue.path.map(String).join('.')}: `;
  return printable(`${where}${issue?.message ?? 'is not what the manifest of the plugin asks for'}`).slice(
    0,
    MOST_SHOWN,
  );
}

const MOST_SHOWN = 200;

/** Keywords that are checked. Not patterns: a regular expression of a plugin's author could hold the process up for hours. */
const KEYWORDS: ReadonlySet<string> = new Set([
  ...['type', 'enum', 'const', 'anyOf', 'oneOf', 'allOf', 'items', 'properties', 'required', 'additionalProperties'],
  ...['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
  ...['minLength', 'maxLength', 'minItems', 'maxItems', 'minProperties', 'maxProperties'],
]);

function checkerOf(property: unknown): z.ZodType | undefined {
  try {
    return z.fromJSONSchema(checkedPart(property) as Parameters<typeof z.fromJSONSchema>[0]);
  } catch {
    return undefined;
  }
}

function checkedPart(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(checkedPart);
  if (typeof schema !== 'object' || schema === null) return schema;
  return Object.fromEntries(
    Object.entries(schema)
      .filter(([keyword]) => KEYWORDS.has(keyword))
      .map(([keyword, value]) => [
        keyword,
        keyword === 'properties' ? checkedProperties(value) : checkedValue(keyword, value),
      ]),
  );
}

function checkedProperties(properties: unknown): unknown {
  if (typeof properties !== 'object' || properties === null) return {};
  return Object.fromEntries(Object.entries(properties).map(([key, schema]) => [key, checkedPart(schema)]));
}

function checkedValue(keyword: string, value: unknown): unknown {
  return keyword === 'enum' || keyword === 'const' || keyword === 'required' ? value : checkedPart(value);
}

/** Keys are written by people, and shown to others. */
function shownKey(key: string): string {
  return JSON.stringify(printable(key.length > 64 ? `${key.slice(0, 64)}…` : key));
}

/** Digest of what was declared together with the versions of what it refers to, in the order of `references`. */
export function settingsRevision(declared: Digest, versions: readonly string[]): Digest {
  return sha256(JSON.stringify([declared, versions]));
}

export function declaredDigest(values: SettingsValues): Digest {
  return sha256(canonicalJson(values));
}

/**
 * The file: what lay there before with each declared key over it, in an order that does not depend on how it was written.
 * `secrets`: values by text of their reference; each of `references` is there.
 */
export function renderSettings(
  base: SettingsValues,
  { values }: CheckedSettings,
  secrets: ReadonlyMap<string, string>,
): string {
  const whole = { ...base, ...(resolved(values, secrets) as SettingsValues) };
  return `${JSON.stringify(JSON.parse(canonicalJson(whole)), null, 2)}\n`;
}

function resolved(value: unknown, secrets: ReadonlyMap<string, string>): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((one) => resolved(one, secrets));
  if ('$ref' in value) return secrets.get(String(value.$ref));
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, resolved(one, secrets)]));
}

/** What a file of settings holds; `undefined` for one that is no JSON object. */
export function parseSettings(text: string): SettingsValues | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
