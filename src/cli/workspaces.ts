import { Option } from 'commander';

import { compareBytes } from '../domain/digest.ts';
import { isName, NAME_RULE, parseWorkspaceKey, splitWorkspaceKey, type WorkspaceKey } from '../domain/name.ts';
import { mapAtOnce } from '../ports/map-at-once.ts';
import type { Loaded, WorkspaceStore } from '../ports/workspace-store.ts';
import { CliError } from './context.ts';

/** A workspace that the store knows, usable or not. */
export type Declared = Exclude<Loaded, { kind: 'absent' }>;

/** Questions to the store at once. */
const READS_AT_ONCE = 16;

export function namespaceOption(description: string): Option {
  return new Option('-n, --namespace <name>', description).argParser(parseNamespace);
}

/** What a list is of, where a store would mean one namespace by itself: a cluster does, as kubectl has it. */
export function allNamespacesOption(): Option {
  return new Option('-A, --all-namespaces', 'all namespaces, also where a cluster means that of the context').conflicts(
    'namespace',
  );
}

function parseNamespace(text: string): string {
  if (!isName(text)) throw new CliError(`namespace ${JSON.stringify(text)}: must be ${NAME_RULE}`);
  return text;
}

export function keyOf(declared: Declared): WorkspaceKey {
  return declared.kind === 'found' ? declared.workspace.key : declared.key;
}

/** `alice` in the given namespace, or `team-a/alice` whatever that is. Throws {@link CliError} for anything else. */
export function keysFrom(names: readonly string[], namespace = 'default'): readonly WorkspaceKey[] {
  const keys = names.map((name) => {
    const key = parseWorkspaceKey(name.includes('/') ? name : `${namespace}/${name}`);
    if (key !== undefined) return key;
    throw new CliError(`${JSON.stringify(name)} is no workspace: give NAME or NAMESPACE/NAME, each ${NAME_RULE}`);
  });
  return [...new Set(keys)];
}

/** Keys that the store has, sorted by namespace and name; all namespaces when none is given. */
export async function listKeys(
  store: WorkspaceStore,
  namespace: string | undefined,
  signal: AbortSignal,
): Promise<readonly WorkspaceKey[]> {
  const keys = await store.list(signal);
  // Half a list would look like a whole one.
  for (const [unread, why] of store.unread?.() ?? [])
    if (namespace === undefined || namespace === unread)
      throw new CliError(`namespace ${unread} cannot be read: ${why}`);
  return keys
    .filter((key) => namespace === undefined || splitWorkspaceKey(key).namespace === namespace)
    .toSorted(compareKeys);
}

/** A namespace with nothing in it is a typo more often than not, and a check that looked at nothing must not be green. */
export function requireSome(keys: readonly WorkspaceKey[], namespace: string | undefined): void {
  if (keys.length > 0 || namespace === undefined) return;
  throw new CliError(`no workspaces are declared in namespace ${namespace}`);
}

/** Reads workspaces in the order of `keys`; a key that is not declared is left out. */
export async function readWorkspaces(
  store: WorkspaceStore,
  keys: readonly WorkspaceKey[],
  signal: AbortSignal,
): Promise<readonly Declared[]> {
  const loaded = await mapAtOnce(READS_AT_ONCE, keys, (key) => store.get(key, signal));
  return loaded.filter((one) => one.kind !== 'absent');
}

/** Says that a workspace is not declared, and where one of that name is. */
export async function notFound(store: WorkspaceStore, key: WorkspaceKey, signal: AbortSignal): Promise<CliError> {
  const { name } = splitWorkspaceKey(key);
  const others = (await store.list(signal)).filter((other) => splitWorkspaceKey(other).name === name);
  const hint =
    others.length === 0
      ? '`plugset status` lists what is declared'
      : `did you mean ${others.toSorted(compareKeys).slice(0, 3).join(' or ')}?`;
  return new CliError(`workspace ${key} is not declared; ${hint}`);
}

function compareKeys(a: WorkspaceKey, b: WorkspaceKey): number {
  const left = splitWorkspaceKey(a);
  const right = splitWorkspaceKey(b);
  return compareBytes(left.namespace, right.namespace) || compareBytes(left.name, right.name);
}
