import { findCondition } from '../domain/condition.ts';
import { parseSourceRef } from '../domain/source.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { mapAtOnce } from '../ports/map-at-once.ts';
import type { Loaded, WorkspaceStore } from '../ports/workspace-store.ts';

/** What the fleet asks of its surroundings. */
export interface Declarations {
  readonly total: number;
  /** How many of them were read. */
  readonly read: number;
  readonly unusable: readonly WorkspaceKey[];
  readonly stalled: readonly WorkspaceKey[];
  readonly schemes: ReadonlySet<string>;
  /** Names of engines. */
  readonly engines: ReadonlySet<string>;
  readonly hasDirectories: boolean;
  readonly hasSshHosts: boolean;
  readonly hasInstances: boolean;
}

/** So many workspaces tell what the fleet is like. */
const MOST = 2_000;
const READS_AT_ONCE = 16;

export async function readDeclarations(store: WorkspaceStore, signal: AbortSignal): Promise<Declarations> {
  const keys = await store.list(signal);
  const some = keys.slice(0, MOST);
  const loaded = await mapAtOnce(READS_AT_ONCE, some, (key) => store.get(key, signal));
  const found = loaded.flatMap((one) => (one.kind === 'found' ? [one.workspace] : []));
  const plugins = found.flatMap((workspace) => workspace.plugins);
  return {
    total: keys.length,
    read: some.length,
    unusable: loaded.flatMap((one) => (one.kind === 'malformed' ? [one.key] : [])),
    stalled: loaded.flatMap((one) => (isStalled(one) ? [one.workspace.key] : [])),
    schemes: new Set(plugins.flatMap(({ source }) => parseSourceRef(source)?.scheme ?? [])),
    engines: new Set(found.flatMap(({ target }) => ('docker' in target ? [target.docker.engine ?? 'default'] : []))),
    hasDirectories: found.some(({ target }) => 'directory' in target),
    hasSshHosts: found.some(({ target }) => 'ssh' in target),
    hasInstances: found.some(({ target }) => 'ec2' in target),
  };
}

function isStalled(loaded: Loaded): loaded is Extract<Loaded, { kind: 'found' }> {
  return loaded.kind === 'found' && findCondition(loaded.status.conditions, 'Stalled') !== undefined;
}
