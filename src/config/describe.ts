import { formatPath } from '../domain/schema-problems.ts';
import { leavesOf, valueAt } from './draft.ts';
import type { Settings } from './settings.ts';

export interface DescribedSetting {
  readonly path: string;
  readonly value: unknown;
  /** Where it was given; `default` where nobody gave it. */
  readonly origin: string;
}

/** Every setting with its origin, secrets masked; lists count as one setting. */
export function describeSettings(
  settings: Settings,
  origins: ReadonlyMap<string, string>,
): readonly DescribedSetting[] {
  const masked = maskSettings(settings);
  return leavesOf(masked)
    .map((path) => ({
      path: formatPath(path),
      value: valueAt(masked, path),
      origin: origins.get(formatPath(path)) ?? 'default',
    }))
    .filter(({ path }) => path !== 'apiVersion' && path !== 'kind');
}

/** The settings as they may be shown: a password in the database's URL is the only secret that can stand in them. */
export function maskSettings(settings: Settings): Settings {
  const { postgres } = settings.store;
  if (postgres?.url === undefined) return settings;
  return { ...settings, store: { ...settings.store, postgres: { ...postgres, url: maskPassword(postgres.url) } } };
}

/** The form `?password=` counts as well. Text that is no URL is hidden as a whole. */
function maskPassword(text: string): string {
  try {
    const url = new URL(text);
    if (url.password !== '') url.password = '***';
    for (const name of url.searchParams.keys()) {
      if (/pass|secret|key/i.test(name)) url.searchParams.set(name, '***');
    }
    return url.href;
  } catch {
    return '***';
  }
}
