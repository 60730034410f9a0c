import type { Reserved } from '../domain/access.ts';
import type { Settings } from './settings.ts';

const ALL = '*';

/**
 * Whose workspaces may be pods. The other way round than for all else: a custom resource reaches only into its own namespace,
 * and it is read only where the store looks, while a row or a file may name any.
 */
export function podsFor({ kubernetes }: Settings['store'], { namespaces }: Settings['targets']['pod']): Reserved {
  const named = namespaces ?? (kubernetes === undefined ? [] : (kubernetes.namespaces ?? [ALL]));
  return { namespaces: named.includes(ALL) ? undefined : named };
}

/**
 * What an entry of the configuration that may name namespaces says for everybody who reads it later: one that names none is
 * for all, and so is one with `*`. Whoever may write a custom resource chooses where it points, though; what names no
 * namespace is for nobody there.
 */
export function reservedIn({ kubernetes }: Settings['store']): <T extends Reserved>(entry: T) => T {
  return (entry) => {
    const namespaces = entry.namespaces ?? (kubernetes === undefined ? [ALL] : []);
    return { ...entry, namespaces: namespaces.includes(ALL) ? undefined : namespaces };
  };
}
