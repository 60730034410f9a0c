import type { WorkspaceKey } from '../domain/name.ts';
import { whenAborted } from '../ports/abort.ts';
import type { Clock } from '../ports/clock.ts';
import type { Logger } from '../ports/logger.ts';
import { mapAtOnce } from '../ports/map-at-once.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import type { TargetProvider } from '../ports/workspace-target.ts';
import { providerOf } from './locate.ts';

export interface PrepareOptions {
  readonly store: Pick<WorkspaceStore, 'list' | 'declarations'>;
  readonly providers: readonly TargetProvider[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What names another place meanwhile is looked up by its first pass. */
export const PREPARE_AGAIN_MS = 10 * 60_000;
/** For the keys alone, which a store that has all declarations at hand has at hand, too. */
export const LOOK_FOR_NEW_MS = 30_000;
const PREPARE_AT_ONCE = 16;
const PAGE = 500;

/**
 * While another process leads: providers learn what the first passes after a change of leaders would wait for. Only of a store
 * that has all declarations at hand. Ends when `signal` aborts; never rejects.
 */
export async function prepareTargets(options: PrepareOptions, signal: AbortSignal): Promise<void> {
  const { store, clock, logger } = options;
  const providers = options.providers.filter(({ prepare }) => prepare !== undefined);
  if (providers.length === 0 || store.declarations === undefined) return whenAborted(signal);
  let known: ReadonlySet<WorkspaceKey> = new Set();
  let allAt = clock.monotonic();
  while (!signal.aborted) {
    const isAllDue = clock.monotonic() >= allAt;
    try {
      const keys = await store.list(signal);
      if (isAllDue) allAt = clock.monotonic() + PREPARE_AGAIN_MS;
      await prepareAll(isAllDue ? keys : keys.filter((key) => !known.has(key)), { ...options, providers }, signal);
      known = new Set(keys);
    } catch (error) {
      if (!signal.aborted) logger.debug('what there is to work on cannot be told now', { error });
    }
    await clock.sleep(LOOK_FOR_NEW_MS * (0.9 + clock.random() * 0.2), signal).catch(() => undefined);
  }
}

async function prepareAll(
  keys: readonly WorkspaceKey[],
  { store, providers, logger }: PrepareOptions,
  signal: AbortSignal,
): Promise<void> {
  for (let from = 0; from < keys.length; from += PAGE) {
    const page = await store.declarations?.(keys.slice(from, from + PAGE), signal);
    await mapAtOnce(PREPARE_AT_ONCE, [...(page?.values() ?? [])], async (workspace) => {
      if (workspace === undefined) return;
      try {
        await providerOf(workspace, providers)?.prepare?.(workspace, signal);
      } catch (error) {
        signal.throwIfAborted();
        logger.debug('a target cannot be looked up beforehand', { workspace: workspace.key, error });
      }
    });
  }
}
