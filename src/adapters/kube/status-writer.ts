import { isLaterTurn } from '../../domain/fence.ts';
import { splitWorkspaceKey } from '../../domain/name.ts';
import { isSameData } from '../../domain/same-data.ts';
import { API_VERSION } from '../../domain/workspace.ts';
import type { StatusWrite } from '../../ports/workspace-store.ts';
import type { FenceFloor } from './fence-floor.ts';
import { expectNewestTurn } from './newest-turn.ts';
import { ROUNDS, alwaysWritten, pathOf, type WorkspaceApi } from './workspace-api.ts';
import { keptFrom, type KeptWorkspace } from './workspace-object.ts';
import { STATUS_MANAGER, withoutEmpty, writable, type WrittenStatus } from './workspace-status.ts';

/**
 * Writes statuses by server-side apply: what we have written before and say no more is taken out, what others own is left
 * alone, and what is ours is taken back.
 */
export class StatusWriter {
  readonly #api: WorkspaceApi;
  readonly #floor: FenceFloor;

  constructor(api: WorkspaceApi, floor: FenceFloor) {
    this.#api = api;
    this.#floor = floor;
  }

  /** `known`: the object that the status speaks of. Resolves with its new version; `undefined`: nothing was to be written. */
  async write(
    { key, status, fence }: StatusWrite,
    known: KeptWorkspace,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const next = writable(status);
    if (isSameData(next, known.status)) return undefined;
    const what = `the status of ${key}`;
    await expectNewestTurn(this.#floor, fence, what, signal);
    const { epoch, n } = fence;
    let now: KeptWorkspace | undefined = known;
    for (let round = 0; round < ROUNDS; round++) {
      // Another object of that name has a status of its own.
      if (now?.uid !== known.uid) return undefined;
      // Whoever may write statuses may write any turn; a real one has said so where only plugset does.
      if (now.fence !== undefined && isLaterTurn(now.fence, fence))
        await expectNewestTurn(this.#floor, fence, what, signal);
      const written = await this.#apply(now, { ...next, fence: { epoch, n } }, signal);
      if (written !== undefined) return written;
      const found = await this.#api.get(key, signal);
      now = found === undefined ? undefined : keptFrom(found, now);
    }
    throw alwaysWritten(key);
  }

  /** `undefined`: it is another one by now, or gone. */
  async #apply(
    { key, uid, version }: KeptWorkspace,
    status: WrittenStatus,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const metadata = { ...splitWorkspaceKey(key), uid, resourceVersion: version };
    const written = await this.#api.write(
      key,
      {
        method: 'PATCH',
        path: `${pathOf(key)}/status`,
        query: { fieldManager: STATUS_MANAGER, force: 'true' },
        contentType: 'application/apply-patch+yaml',
        body: { apiVersion: API_VERSION, kind: 'Workspace', metadata, status: withoutEmpty(status) },
      },
      [404, 409],
      signal,
    );
    return 'refused' in written ? undefined : written.metadata.resourceVersion;
  }
}
