import { canonicalJson } from '../domain/digest.ts';
import { formatPath } from '../domain/schema-problems.ts';
import { leavesOf, valueAt } from './draft.ts';
import type { Settings } from './settings.ts';

/** Read once at the start: what is open or held under them cannot be exchanged under running passes. */
const NEED_RESTART = ['store', 'kubernetes', 'sources.cacheDirectory', 'sources.cacheSizeMiB', 'telemetry'] as const;

/** `path`: dotted, of a setting. Everything else is taken up while the daemon runs. */
export function needsRestart(path: string): boolean {
  return NEED_RESTART.some((prefix) => path === prefix || path.startsWith(`${prefix}.`));
}

export interface Reload {
  /** What to go on with: the new settings, with the old values where only a restart can change them. */
  readonly settings: Settings;
  /** Dotted paths of what is taken up now, and of what waits for a restart. */
  readonly applied: readonly string[];
  readonly waiting: readonly string[];
}

export function planReload(before: Settings, after: Settings): Reload {
  const old = valuesOf(before);
  const young = valuesOf(after);
  const changed = [...new Set([...old.keys(), ...young.keys()])].filter((path) => old.get(path) !== young.get(path));
  return {
    settings: NEED_RESTART.map((path) => path.split('.')).reduce(
      (kept, path) => withValue(kept, path, valueAt(before, path)),
      after,
    ),
    applied: changed.filter((path) => !needsRestart(path)).toSorted(),
    waiting: changed.filter(needsRestart).toSorted(),
  };
}

/** Unmasked: a new password is a change as well. */
function valuesOf(settings: Settings): ReadonlyMap<string, string> {
  return new Map(leavesOf(settings).map((path) => [formatPath(path), canonicalJson(valueAt(settings, path))]));
}

function withValue<T>(map: T, [key = '', ...rest]: readonly string[], value: unknown): T {
  return { ...map, [key]: rest.length === 0 ? value : withValue(map[key as keyof T], rest, value) };
}
