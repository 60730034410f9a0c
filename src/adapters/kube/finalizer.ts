import { waiting } from '../../domain/errors.ts';
import type { WorkspaceKey } from '../../domain/name.ts';
import { ROUNDS, alwaysWritten, pathOf, type WorkspaceApi } from './workspace-api.ts';
import { FINALIZER, type WorkspaceResource } from './workspace-object.ts';
import { STATUS_MANAGER } from './workspace-status.ts';

/** An object that goes tells so itself. */
const LOOK_AGAIN_MS = 60_000;

interface PatchStep {
  readonly op: 'test' | 'add' | 'remove';
  readonly path: string;
  readonly value?: unknown;
}

/**
 * Puts our finalizer on an object, or takes it off again. As a JSON patch with a test, since finalizers are a plain list: a patch
 * of any other kind would replace those of others. Resolves with the new version; `undefined`: nothing was to be done.
 */
export class Finalizer {
  readonly #api: WorkspaceApi;

  constructor(api: WorkspaceApi) {
    this.#api = api;
  }

  /** Throws `Deleting` where that is too late. */
  async add(key: WorkspaceKey, signal: AbortSignal): Promise<string | undefined> {
    return this.#change(key, signal, (found) => {
      if (found === undefined || found.metadata.deletionTimestamp !== undefined) throw isBeingDeleted(key);
      const { finalizers, resourceVersion } = found.metadata;
      if (finalizers?.includes(FINALIZER) === true) return undefined;
      return [
        { op: 'test', path: '/metadata/resourceVersion', value: resourceVersion },
        finalizers === undefined
          ? { op: 'add', path: '/metadata/finalizers', value: [FINALIZER] }
          : { op: 'add', path: '/metadata/finalizers/-', value: FINALIZER },
      ];
    });
  }

  /** Of that very object, and only while it is being deleted. */
  async remove(key: WorkspaceKey, uid: string, signal: AbortSignal): Promise<string | undefined> {
    return this.#change(key, signal, (found) => {
      const { finalizers = [], deletionTimestamp } = found?.metadata ?? {};
      const index = finalizers.indexOf(FINALIZER);
      if (found?.metadata.uid !== uid || deletionTimestamp === undefined || index < 0) return undefined;
      const path = `/metadata/finalizers/${index}`;
      return [
        { op: 'test', path: '/metadata/uid', value: uid },
        { op: 'test', path, value: FINALIZER },
        { op: 'remove', path },
      ];
    });
  }

  async #change(
    key: WorkspaceKey,
    signal: AbortSignal,
    stepsFor: (found: WorkspaceResource | undefined) => readonly PatchStep[] | undefined,
  ): Promise<string | undefined> {
    for (let round = 0; round < ROUNDS; round++) {
      const steps = stepsFor(await this.#api.get(key, signal));
      if (steps === undefined) return undefined;
      const changed = await this.#api.write(
        key,
        {
          method: 'PATCH',
          path: pathOf(key),
          query: { fieldManager: STATUS_MANAGER },
          contentType: 'application/json-patch+json',
          body: steps,
        },
        // A test that fails is a patch that cannot be processed.
        [404, 409, 422],
        signal,
      );
      if (!('refused' in changed)) return changed.metadata.resourceVersion;
    }
    throw alwaysWritten(key);
  }
}

export function isBeingDeleted(key: WorkspaceKey): Error {
  return waiting('Deleting', `${key} is deleted: nothing is put anywhere for it any more`, LOOK_AGAIN_MS);
}
