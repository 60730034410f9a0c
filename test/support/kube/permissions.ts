import type { AuditEvent } from './cluster.ts';
import { findManifest, type Manifest } from './overlay.ts';

interface Rules {
  readonly rules: readonly {
    readonly apiGroups: readonly string[];
    readonly resources: readonly string[];
    readonly verbs: readonly string[];
  }[];
}

/** What the roles of an overlay let plugset do: `state: configmaps get`, `workspaces: plugset.dev/workspaces list`. */
export function grantedBy(manifests: readonly Manifest[]): readonly string[] {
  return [
    ...namesOf('state', findManifest(manifests, 'Role', 'plugset-state') as Rules),
    ...namesOf('workspaces', findManifest(manifests, 'ClusterRole', 'plugset-workspaces') as Rules),
  ].toSorted();
}

function namesOf(where: string, { rules }: Rules): readonly string[] {
  return rules.flatMap(({ apiGroups, resources, verbs }) =>
    apiGroups.flatMap((group) =>
      resources.flatMap((resource) => verbs.map((verb) => nameOf(where, group, resource, verb))),
    ),
  );
}

/** What a user asked for, in the words of {@link grantedBy}; `stateNamespace`: where plugset keeps what it remembers. */
export function usedBy(user: string, events: readonly AuditEvent[], stateNamespace: string): readonly string[] {
  const used = events.flatMap(({ user: { username }, verb, objectRef }) => {
    if (username !== user || objectRef?.resource === undefined) return [];
    const { apiGroup = '', resource, subresource, namespace } = objectRef;
    const whole = subresource === undefined ? resource : `${resource}/${subresource}`;
    return [nameOf(namespace === stateNamespace ? 'state' : 'workspaces', apiGroup, whole, verb)];
  });
  return [...new Set(used)].toSorted();
}

function nameOf(where: string, group: string, resource: string, verb: string): string {
  return `${where}: ${group === '' ? '' : `${group}/`}${resource} ${verb}`;
}
