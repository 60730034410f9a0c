import type { Reserved } from '../domain/access.ts';
import type { Settings } from './settings.ts';

const ALL = '*';

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
