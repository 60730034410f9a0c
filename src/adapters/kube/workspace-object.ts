import { isSameData } from '../../domain/same-data.ts';
import type { Turn } from '../../domain/fence.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { checkSchema, formatPath } from '../../domain/schema-problems.ts';
import type { WorkspaceStatus } from '../../domain/status.ts';
import {
  API_VERSION,
  REQUESTED_AT_ANNOTATION,
  workspaceFrom,
  workspaceSchema,
  type FleetPolicy,
  type WorkspaceManifest,
} from '../../domain/workspace.ts';
import type { Loaded } from '../../ports/workspace-store.ts';
import { keyOf, type KubeObject } from './kube-object.ts';
import { entriesOf, specWrittenAtMs } from './managed-fields.ts';
import { statusIn, writableText, type WrittenStatus } from './workspace-status.ts';

/** Keeps a deleted object until its target is clean. */
export const FINALIZER = 'plugset.dev/cleanup';

/** The custom resource as the API server hands it over. */
export interface WorkspaceResource extends KubeObject {
  readonly spec?: { readonly plugins?: unknown };
  readonly status?: Partial<WrittenStatus>;
}

/** What is kept of it. */
export interface KeptWorkspace {
  readonly key: WorkspaceKey;
  readonly uid: string;
  readonly version: string;
  readonly generation: number;
  readonly declaredAtMs: number;
  readonly labels: Readonly<Record<string, string>> | undefined;
  /** Ours and those without a prefix: what other programs note there for themselves is long, and changes by itself. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Unix milliseconds. */
  readonly deletedAtMs: number | undefined;
  /** Whether its deletion waits for us. */
  readonly isClaimed: boolean;
  readonly declared: Declared;
  readonly status: WorkspaceStatus;
  /** The turn that has written the status. */
  readonly fence: Turn | undefined;
}

type Facts = Omit<KeptWorkspace, 'declared'>;

/** What is declared, checked once for all passes; or what is wrong with it, a line for people each. */
type Declared = { readonly manifest: WorkspaceManifest } | { readonly problems: readonly string[] };

/** `before`: what was kept of it so far. */
export function keptFrom(resource: WorkspaceResource, before: KeptWorkspace | undefined): KeptWorkspace {
  const { metadata, spec, status } = resource;
  const { uid, generation = 1, deletionTimestamp, creationTimestamp = '' } = metadata;
  const entries = entriesOf(metadata);
  const isOldSpec = before?.uid === uid && before.generation === generation;
  const facts = {
    key: keyOf(resource) as WorkspaceKey,
    uid,
    version: metadata.resourceVersion,
    generation,
    declaredAtMs: isOldSpec ? before.declaredAtMs : (specWrittenAtMs(entries) ?? Date.parse(creationTimestamp)),
    labels: metadata.labels,
    annotations: ownAnnotations(metadata.annotations),
    deletedAtMs: deletionTimestamp === undefined ? undefined : Date.parse(deletionTimestamp),
    isClaimed: metadata.finalizers?.includes(FINALIZER) ?? false,
    status: statusIn(status, entries),
    fence: status?.fence,
  };
  const isSameDeclaration = before !== undefined && !isEdited(before, facts);
  return { ...facts, declared: isSameDeclaration ? before.declared : declaredBy(facts, spec) };
}

/** Deleted, and nothing of it is ours to do: whoever else holds it up, for us it is gone. */
export function isGone({ deletedAtMs, isClaimed }: Facts): boolean {
  return deletedAtMs !== undefined && !isClaimed;
}

/** Whether a pass has something new to see; a report about it, ours or another's, is nothing new. */
export function isEdited(before: KeptWorkspace, now: Facts): boolean {
  return (
    before.uid !== now.uid ||
    before.generation !== now.generation ||
    before.deletedAtMs !== now.deletedAtMs ||
    isGone(before) !== isGone(now) ||
    !isSameData(before.labels, now.labels) ||
    !isSameData(before.annotations, now.annotations)
  );
}

export function loadedFrom(kept: KeptWorkspace, defaultPolicy: FleetPolicy): Loaded {
  if (isGone(kept)) return { kind: 'absent' };
  const { key, generation, deletedAtMs, annotations, declared, status } = kept;
  const deleting = deletedAtMs !== undefined;
  if ('problems' in declared) {
    const requestedAt = annotations[REQUESTED_AT_ANNOTATION];
    return { kind: 'malformed', key, generation, problems: declared.problems, deleting, requestedAt, status };
  }
  const workspace = workspaceFrom(declared.manifest, {
    generation,
    declaredAtMs: deletedAtMs ?? kept.declaredAtMs,
    deleting,
    defaultPolicy,
    originOf: (_index, plugin) => `${nameOf(key)}: spec.plugins (${plugin})`,
  });
  return { kind: 'found', workspace, status };
}

function declaredBy({ key, labels, annotations, deletedAtMs }: Facts, spec: unknown): Declared {
  const { namespace, name } = splitWorkspaceKey(key);
  const manifest = {
    apiVersion: API_VERSION,
    kind: 'Workspace',
    metadata: { name, namespace, annotations, ...(labels && { labels }) },
    // What is installed goes, or stays, whatever is declared.
    spec: deletedAtMs !== undefined && lacksPlugins(spec) ? { ...(spec as object), plugins: [] } : spec,
  };
  const checked = checkSchema(workspaceSchema, manifest);
  if (checked.kind === 'valid') return { manifest: checked.value };
  const problems = checked.problems.map(({ path, message }) => {
    const where = formatPath(path);
    return `${nameOf(key)}: ${where}: ${where === 'spec.plugins' && lacksPlugins(spec) ? LOST_PLUGINS : message}`;
  });
  return { problems };
}

/*
 * By server-side apply a list that is emptied is gone from the object, and the same apply over that makes an empty one of it.
 * Nothing in between tells it from a list that somebody has lost: who owned its entries owns nothing of it in both.
 */
const LOST_PLUGINS =
  'is missing, so nothing is installed or removed; where it was emptied by server-side apply, apply [] once more';

function lacksPlugins(spec: unknown): boolean {
  return typeof spec === 'object' && spec !== null && !('plugins' in spec);
}

/** As kubectl names it. */
function nameOf(key: WorkspaceKey): string {
  const { namespace, name } = splitWorkspaceKey(key);
  return `workspace.plugset.dev/${name} in ${namespace}`;
}

/** As a status can echo them, or what they ask for would be asked for in every pass. */
function ownAnnotations(all: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  const isOurs = (name: string): boolean => !name.includes('/') || name.startsWith('plugset.dev/');
  const ours = Object.entries(all).filter(([name]) => isOurs(name));
  return Object.fromEntries(ours.map(([name, value]) => [name, writableText(value)]));
}
