import { isSameData } from './same-data.ts';

/** An object of a JSON text. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** Settings after an edit. */
export interface SettingsEdit {
  readonly settings: JsonObject;
  /** Paths of keys that were taken out, put back or changed. Never a value. */
  readonly changed: readonly string[];
  /** Paths of keys that a plugin brought and somebody has changed since. */
  readonly left: readonly string[];
}

/** Of one top-level key. `value` is `undefined` where it goes. */
interface KeyEdit {
  readonly value: unknown;
  readonly changed: readonly string[];
  readonly left: readonly string[];
}

/** Fragments in the order of a loader, before a change of plugins and after it. */
interface Fragments {
  readonly before: readonly JsonObject[];
  readonly after: readonly JsonObject[];
}

/** `undefined` for what is no JSON object, and for what would lose digits when it is written again. */
export function parseSettings(text: string): JsonObject | undefined {
  const withoutTexts = text.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""');
  const numbers = withoutTexts.match(/-?\d[\d.eE+-]*/g) ?? [];
  if (numbers.some((number) => number.replaceAll(/[eE].*|\D/g, '').length > 15)) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** As a loader writes it. */
export function printSettings(settings: JsonObject): string {
  return `${JSON.stringify(settings, null, 2)}\n`;
}

/**
 * What fragments brought and none brings any longer is taken out of settings, with what they overruled put back from `base`.
 * What new fragments bring is the loader's to add. `directories`: what `${CLAUDE_DIR}` may have become.
 */
export function withoutFragments(
  settings: JsonObject,
  base: JsonObject | undefined,
  fragments: Fragments,
  directories: readonly string[],
): SettingsEdit {
  const result = new Map(Object.entries(settings));
  const changed: string[] = [];
  const left: string[] = [];
  for (const key of keysOf(fragments.before)) {
    if (!result.has(key)) continue;
    const edit = editKey(key, result.get(key), base, fragments, directories);
    if (edit.value === undefined) result.delete(key);
    else result.set(key, edit.value);
    changed.push(...edit.changed);
    left.push(...edit.left);
  }
  return { settings: Object.fromEntries(result), changed, left };
}

function editKey(
  key: string,
  current: unknown,
  base: JsonObject | undefined,
  { before, after }: Fragments,
  directories: readonly string[],
): KeyEdit {
  const inFragments = { before: valuesOf(before, key), after: valuesOf(after, key) };
  const baseValue = valueOf(base, key);
  if (key === 'hooks') return editHooks(current, baseValue, inFragments, directories);
  // A loader goes into two objects, and leaves every other value that is there already.
  return isObject(current) && inFragments.before.some(isObject)
    ? editMembers(key, current, baseValue, inFragments)
    : editValue(key, current, baseValue, inFragments);
}

interface Values {
  readonly before: readonly unknown[];
  readonly after: readonly unknown[];
}

/** Whoever was first has set it, unless it was there. */
function editValue(key: string, current: unknown, base: unknown, { before, after }: Values): KeyEdit {
  const unchanged = { value: current, changed: [], left: [] };
  if (base !== undefined || after.some((one) => isSameData(one, current))) return unchanged;
  if (!before.some((one) => isSameData(one, current))) return { ...unchanged, left: [key] };
  return { value: after[0], changed: [key], left: [] };
}

/** The last fragment overrules the others, and what was there. */
function editMembers(key: string, current: JsonObject, base: unknown, values: Values): KeyEdit {
  const [before, after] = [values.before.filter(isObject), values.after.filter(isObject)];
  const members = new Map(Object.entries(current));
  const changed: string[] = [];
  const left: string[] = [];
  for (const member of keysOf(before)) {
    if (!members.has(member)) continue;
    const path = `${key}.${member}`;
    const found = members.get(member);
    const winner = valuesOf(after, member).at(-1) ?? valueOf(isObject(base) ? base : undefined, member);
    if (isSameData(found, winner)) continue;
    if (!valuesOf(before, member).some((one) => isSameData(one, found))) {
      if (valuesOf(after, member).length === 0) left.push(path);
      continue;
    }
    changed.push(path);
    if (winner === undefined) members.delete(member);
    else members.set(member, winner);
  }
  const isGone = members.size === 0 && changed.length > 0 && base === undefined && after.length === 0;
  return { value: isGone ? undefined : Object.fromEntries(members), changed, left };
}

function editHooks(
  current: unknown,
  base: unknown,
  { before, after }: Values,
  directories: readonly string[],
): KeyEdit {
  if (!isObject(current)) return { value: current, changed: [], left: [] };
  const events = new Map(Object.entries(current));
  const changed: string[] = [];
  const left: string[] = [];
  const baseEvents = isObject(base) ? base : {};
  for (const event of keysOf(before.filter(isObject))) {
    const found = events.get(event);
    if (!Array.isArray(found)) continue;
    const ours = (one: unknown): readonly unknown[] => handlersIn(valueOf(isObject(one) ? one : undefined, event));
    const brought = before.flatMap(ours).flatMap((handler) => inDirectories(handler, directories));
    const kept = new Set(
      [...after.flatMap(ours).flatMap((one) => inDirectories(one, directories)), ...ours(baseEvents)].map(identityOf),
    );
    const staying = found.filter((handler) => {
      const identity = identityOf(handler);
      if (kept.has(identity) || !brought.some((one) => identityOf(one) === identity)) return true;
      const path = `hooks.${event}[${matcherOf(handler)}]`;
      if (!brought.some((one) => isSameData(one, handler))) return left.push(path) > 0;
      changed.push(path);
      return false;
    });
    if (staying.length > 0 || valueOf(baseEvents, event) !== undefined) events.set(event, staying);
    else events.delete(event);
  }
  if (changed.length === 0) return { value: current, changed, left };
  return { value: events.size > 0 || base !== undefined ? Object.fromEntries(events) : undefined, changed, left };
}

function handlersIn(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** A handler with the directory in its commands, for each way to write that. */
function inDirectories(handler: unknown, directories: readonly string[]): readonly unknown[] {
  if (!isObject(handler) || !Array.isArray(handler['hooks'])) return [handler];
  const hooks = handler['hooks'] as readonly unknown[];
  return directories.map((directory) => ({
    ...handler,
    hooks: hooks.map((hook) => {
      const command = isObject(hook) ? hook['command'] : undefined;
      if (typeof command !== 'string') return hook;
      return { ...(hook as JsonObject), command: command.replaceAll('${CLAUDE_DIR}', () => directory) };
    }),
  }));
}

/** A handler is another one's double where its matcher and its commands are the same. */
function identityOf(handler: unknown): string {
  const hooks = isObject(handler) ? handlersIn(handler['hooks']) : [];
  const commands = new Set(hooks.map((hook) => (isObject(hook) ? hook['command'] : hook)));
  return JSON.stringify([matcherOf(handler), [...commands].map((one) => JSON.stringify(one) ?? '').toSorted()]);
}

function matcherOf(handler: unknown): string {
  const matcher = isObject(handler) ? handler['matcher'] : undefined;
  return typeof matcher === 'string' ? matcher : '';
}

function keysOf(objects: readonly JsonObject[]): readonly string[] {
  return [...new Set(objects.flatMap((one) => Object.keys(one)))];
}

function valuesOf(objects: readonly JsonObject[], key: string): readonly unknown[] {
  return objects.map((one) => valueOf(one, key)).filter((value) => value !== undefined);
}

/** Own keys only: what comes from a target may be called `constructor`. */
function valueOf(object: JsonObject | undefined, key: string): unknown {
  return object !== undefined && Object.hasOwn(object, key) ? object[key] : undefined;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
