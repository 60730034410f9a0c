import { terminal } from '../../domain/errors.ts';
import { splitWorkspaceKey, workspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { isSameData } from '../../domain/same-data.ts';
import type { Requests, WorkspaceManifest } from '../../domain/workspace.ts';
import { entriesOf, type Fields } from './managed-fields.ts';
import { ROUNDS, alwaysWritten, collectionOf, pathOf, type WorkspaceApi } from './workspace-api.ts';
import type { WorkspaceResource } from './workspace-object.ts';

/** Owner of what people write with our commands. */
const PEOPLES_MANAGER = 'plugset-cli';
/** And of what they ask for, which no declaration takes back. */
const REQUESTS_MANAGER = 'plugset-requests';

export interface Applied {
  readonly key: WorkspaceKey;
  readonly version: string;
  readonly outcome: 'created' | 'configured' | 'unchanged';
}

/** Writes declarations for people at a command line. */
export class ManifestWriter {
  readonly #api: WorkspaceApi;

  constructor(api: WorkspaceApi) {
    this.#api = api;
  }

  /**
   * Replaces the whole spec, whoever wrote it; labels and annotations of others stay. Not by server-side apply, which would leave
   * the plugins of others in it: a person who applies a file means that list of plugins and no other.
   */
  async apply(manifest: WorkspaceManifest, signal: AbortSignal): Promise<Applied> {
    const key = workspaceKey(manifest.metadata.namespace ?? 'default', manifest.metadata.name);
    for (let round = 0; round < ROUNDS; round++) {
      const found = await this.#api.get(key, signal);
      const written = await this.#write(key, found, manifest, signal);
      if (!('refused' in written)) {
        const { resourceVersion: version } = written.metadata;
        return { key, version, outcome: outcomeOf(found, written) };
      }
      const isMissingPlace = found === undefined && written.refused === 404;
      if (written.refused === 400 || written.refused === 422 || isMissingPlace)
        throw terminal('InvalidSpec', `the declaration of ${key} was refused: ${written.why}`);
    }
    throw alwaysWritten(key);
  }

  /** The uid of what is being deleted from now on; `undefined`: it is not there, or was deleted before. */
  async delete(key: WorkspaceKey, signal: AbortSignal): Promise<string | undefined> {
    const found = await this.#api.get(key, signal);
    if (found === undefined || found.metadata.deletionTimestamp !== undefined) return undefined;
    const { uid } = found.metadata;
    const body = { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid } };
    const deleted = await this.#api.ask({ method: 'DELETE', path: pathOf(key), body }, [404, 409], signal);
    return 'refused' in deleted ? undefined : uid;
  }

  /** The new version; `undefined`: it is not there. */
  async annotate(key: WorkspaceKey, requests: Requests, signal: AbortSignal): Promise<string | undefined> {
    const annotated = await this.#api.ask(
      {
        method: 'PATCH',
        path: pathOf(key),
        query: { fieldManager: REQUESTS_MANAGER },
        contentType: 'application/merge-patch+json',
        body: { metadata: { annotations: requests } },
      },
      [404],
      signal,
    );
    return 'refused' in annotated ? undefined : annotated.metadata.resourceVersion;
  }

  async #write(
    key: WorkspaceKey,
    found: WorkspaceResource | undefined,
    manifest: WorkspaceManifest,
    signal: AbortSignal,
  ): ReturnType<WorkspaceApi['ask']> {
    const { apiVersion, kind, metadata, spec } = manifest;
    const { namespace } = splitWorkspaceKey(key);
    const labels = merged(found, 'labels', metadata.labels);
    const annotations = merged(found, 'annotations', metadata.annotations);
    const body = {
      ...found,
      apiVersion,
      kind,
      metadata: { ...found?.metadata, ...metadata, namespace, labels, annotations },
      spec,
    };
    const query = { fieldManager: PEOPLES_MANAGER };
    return this.#api.ask(
      found === undefined
        ? { method: 'POST', path: collectionOf(namespace), query, body }
        : { method: 'PUT', path: pathOf(key), query, body },
      [400, 404, 409, 422],
      signal,
    );
  }
}

/** Not by the version: what was only filled in by default when it was read is stored with the first write after that. */
function outcomeOf(found: WorkspaceResource | undefined, { metadata: now }: WorkspaceResource): Applied['outcome'] {
  if (found === undefined) return 'created';
  const { metadata: before } = found;
  const isSame = before.generation === now.generation && isSameData(before.labels, now.labels);
  return isSame && isSameData(before.annotations, now.annotations) ? 'unchanged' : 'configured';
}

/** What others have put there stays; what we put there before, and is said no more, goes. */
function merged(
  found: WorkspaceResource | undefined,
  what: 'labels' | 'annotations',
  said: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> | undefined {
  const ours: Fields = ownFields(found)?.['f:metadata']?.[`f:${what}`] ?? {};
  const kept = Object.entries(found?.metadata[what] ?? {}).filter(([name]) => !(`f:${name}` in ours));
  const both = { ...Object.fromEntries(kept), ...said };
  // An empty map is another object to the API server than none.
  return Object.keys(both).length === 0 ? undefined : both;
}

function ownFields(found: WorkspaceResource | undefined): Fields | undefined {
  if (found === undefined) return undefined;
  const entry = entriesOf(found.metadata).find(({ manager, subresource }) => {
    return manager === PEOPLES_MANAGER && subresource === undefined;
  });
  return entry?.fieldsV1;
}
